import { assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { GatewayError } from "../vm/base/error.ts";
import { runSsh } from "./guest_command.ts";

Deno.test("runSsh() ends a program of the guest that prints more than 4 MiB", async () => {
  const dir = await Deno.makeTempDir();
  const script = '#!/bin/sh\nexec head -c "$1" /dev/zero\n';
  await Deno.writeTextFile(join(dir, "ssh"), script, { mode: 0o755 });
  const env = { PATH: `${dir}:/usr/bin:/bin` };
  const most = 4 * 1024 * 1024;
  const { stdout } = await runSsh({ args: [`${most}`], env });
  assertEquals(stdout.length, most);
  const error = await assertRejects(
    () => runSsh({ args: [`${most + 1}`], env, check: false }),
    GatewayError,
  );
  assertEquals(error.why, `it printed more than ${most} bytes`);
  await Deno.remove(dir, { recursive: true });
});
