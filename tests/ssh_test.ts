/**
 * The instance's ssh files and argument lists as OpenSSH and POSIX shells read them.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { ensureSsh, shellQuote, sshArgs, writeSshConfig } from "../net/ssh.ts";
import { run, which } from "../vm/base/process.ts";

const NASTY = [
  "",
  " ",
  "a b",
  "it's",
  `"quoted"`,
  "$HOME `id` $(id)",
  "back\\slash\\",
  "new\nline\n",
  "*",
  "~",
  "!x",
  "#x",
  "-n",
  "--",
  "a;b&c|d<e>f",
  "A=1",
  "grün 🌱",
  "tab\there",
  "'",
  "''",
  "\\'",
];

for (const shell of ["sh", "bash", "busybox"]) {
  Deno.test({
    name: `sshArgs() passes every argument unchanged when the guest's shell is ${shell}`,
    ignore: which(shell) === undefined,
    fn: async () => {
      // %s. keeps each argument apart, and its own line ends from being trimmed.
      const command = sshArgs("/c", "dev", ["printf", "%s\\0", ...NASTY]).at(-1)!;
      const args = shell === "busybox" ? ["sh", "-c", command] : ["-c", command];
      const { stdout } = await run(shell, { args });
      assertEquals(stdout.split("\0").slice(0, -1), NASTY);
    },
  });
}

Deno.test("sshArgs() runs programs, not keywords or assignments, when they look like those", async () => {
  for (const word of ["if", "A=1", "{", "time"]) {
    const command = sshArgs("/c", "dev", [word]).at(-1)!;
    const { code } = await run("/bin/sh", {
      args: ["-c", command],
      check: false,
      env: { PATH: "/no" },
    });
    assertEquals(code, 127, word);
  }
  assertEquals(shellQuote(["a"]), "'a'");
});

Deno.test({
  name: "ensureSsh() makes keys and a config that OpenSSH takes (skipped without it)",
  ignore: which("ssh") === undefined || which("ssh-keygen") === undefined,
  fn: async () => {
    const top = await Deno.makeTempDir({ prefix: "gw " });
    const dir = join(top, `ü :,$%h"q"\\`);
    try {
      const { payload } = await ensureSsh(dir);
      for (const name of ["id_ed25519", "ssh_host_ed25519_key"]) {
        const { stdout } = await run("ssh-keygen", { args: ["-y", "-f", join(dir, name)] });
        assertEquals(stdout.trim(), (await Deno.readTextFile(join(dir, `${name}.pub`))).trim());
      }
      const path = await writeSshConfig({
        sshDir: dir,
        name: "dev",
        port: 4711,
      });
      const { stdout } = await run("ssh", { args: ["-G", "-F", path, "dev"] });
      const settings = new Map(
        stdout.split("\n").map((line) => [line.split(" ")[0], line.split(" ").slice(1).join(" ")]),
      );
      assertEquals(settings.get("hostname"), "127.0.0.1");
      assertEquals(settings.get("port"), "4711");
      assertEquals(settings.get("user"), "root");
      assertEquals(settings.get("controlpath"), join(dir, "mux"));
      // Shown before and after its tokens are replaced.
      const doubled = dir.replaceAll("%", "%%");
      assertEquals(settings.get("identityfile"), join(doubled, "id_ed25519"));
      assertEquals(settings.get("userknownhostsfile"), join(dir, "known_hosts"));
      assertEquals(settings.get("forwardagent"), "no");
      assert(["true", "yes"].includes(settings.get("stricthostkeychecking")!));
      const found = await run("ssh-keygen", {
        args: ["-F", "[127.0.0.1]:4711", "-f", join(dir, "known_hosts")],
      });
      const key = payload["ssh_host_ed25519_key.pub"]!.split(" ")[1]!;
      assert(found.stdout.includes(key));
    } finally {
      await Deno.remove(top, { recursive: true });
    }
  },
});
