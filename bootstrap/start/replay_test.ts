import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { run } from "../../vm/base/process.ts";
import type { VmSpec } from "../../vm/machine/spec.ts";
import { replayScript } from "./replay.ts";

Deno.test("replayScript() starts network and VM with exactly the words and variables they had", async () => {
  const dir = await Deno.makeTempDir({ prefix: "gw-replay-" });
  try {
    const odd = join(dir, "it's $HOME");
    const spec = {
      name: "odd",
      runtimeDir: join(odd, "vm"),
      consoleLogPath: join(odd, "console.log"),
      consolePorts: [{ socketPath: join(odd, "vm/control") }],
    } as unknown as VmSpec;
    const program = join(dir, "gvproxy");
    // Makes what it is waited for, and tells what it read.
    const listen =
      `Deno.listen({ transport: "unix", path: ${JSON.stringify(join(odd, "api"))} });` +
      "setInterval(() => {}, 1000)";
    await Deno.writeTextFile(join(dir, "listen.js"), listen);
    const words = `run -A --quiet ${join(dir, "listen.js")}`;
    await Deno.writeTextFile(
      program,
      `#!/bin/sh\ncp "$2" ${dir}/config\nexec ${Deno.execPath()} ${words}\n`,
      { mode: 0o755 },
    );
    const text = replayScript(
      spec,
      {
        program: "/bin/sh",
        args: ["-c", 'printf "%s|" "$0" "$@" "$A"', "a b", "c'd"],
        env: { A: "1\n2" },
        cwd: "/",
      },
      { program, config: { exitWithParent: true, egress: "none" }, apiSocket: join(odd, "api") },
    );
    const { stdout } = await run("sh", { args: ["-c", text], timeoutMs: 20_000 });
    assertEquals(stdout, "a b|c'd|1\n2|");
    assertEquals(JSON.parse(await Deno.readTextFile(join(dir, "config"))), {
      exitWithParent: false,
      egress: "none",
    });
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
