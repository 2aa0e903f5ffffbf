import { assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async";
import { join } from "@std/path";
import { GatewayError, interruptedError } from "../vm/error.ts";
import { silentSpan } from "../vm/event.ts";
import { filesBelow } from "./package/app.ts";
import { ensureKeys } from "./up_steps.ts";
import { tempDir } from "../tests/fakes/temp_dir.ts";

Deno.test("ensureKeys() that is interrupted writes nothing any more", async () => {
  const dir = await tempDir();
  const paths = { pkiDir: join(dir, "pki"), sshDir: join(dir, "ssh") };
  const user = new AbortController();
  const keys = ensureKeys(paths, { address: "192.168.7.5" }, {
    span: silentSpan(),
    signal: user.signal,
  });
  user.abort(interruptedError());
  assertEquals((await assertRejects(() => keys, GatewayError)).code, "interrupted");
  const found = await filesBelow(dir);
  await delay(300);
  assertEquals(await filesBelow(dir), found);
  assertEquals(found.filter((path) => path.includes(".tmp-")), []);
  const { signal } = new AbortController();
  // The service is called by the address that it is forwarded from.
  const [pki, ssh] = await ensureKeys(paths, { address: "192.168.7.5" }, {
    span: silentSpan(),
    signal,
  });
  assertEquals([pki.change, Object.keys(ssh.payload).length], ["created", 3]);
});
