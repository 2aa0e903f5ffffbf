import { assertEquals, assertMatch, assertNotEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async";
import { join } from "@std/path";
import { tempDir } from "../../tests/fakes/temp_dir.ts";
import { GatewayError, interruptedError } from "../../vm/base/error.ts";
import { silentSpan } from "../../vm/base/event.ts";
import { filesBelow } from "../package/app.ts";
import { guestUp } from "./guest_up.ts";
import { ensureKeys } from "./parts.ts";

Deno.test("guestUp() sets the clock of a resumed guest and gives it random bytes before anything else", async () => {
  const sent: string[] = [];
  const control = {
    waitForMark: () => Promise.reject(new Error("a resumed guest says nothing of its boot")),
    request: (command: string) => {
      sent.push(command);
      return Promise.resolve("");
    },
  };
  const slot = { from: null, payload: "p", clusterEnds: null, savedAt: new Date().toISOString() };
  const { signal } = new AbortController();
  const prepared = { digest: "p" } as Parameters<typeof guestUp>[3];
  for (const _ of ["one clone", "another"]) {
    await guestUp(control, slot as Parameters<typeof guestUp>[1], signal, prepared);
  }
  assertEquals(sent.map((command) => command.split(" ")[0]), [
    ...["clock", "reseed", "thaw"],
    ...["clock", "reseed", "thaw"],
  ]);
  assertMatch(sent[1]!, /^reseed [0-9a-f]{128}$/);
  assertNotEquals(sent[1], sent[4]);
});

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
