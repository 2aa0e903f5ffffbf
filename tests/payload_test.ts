/**
 * The payload as the guest's tools see it: a POSIX shell sources its env file, tar lists it.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { writePayload } from "../bootstrap/start/payload_disk.ts";
import { run, which } from "../vm/base/process.ts";

const NASTY: Readonly<Record<string, string>> = {
  GW_EMPTY: "",
  GW_SPACES: "  a  b  ",
  GW_QUOTES: `'"'"''"" it's "fine"`,
  GW_COMMANDS: "$(touch pwned) `touch pwned` ; touch pwned & | > pwned",
  GW_VARIABLES: "$HOME ${HOME} $$ $1 ~ * ? [a-z] !!",
  GW_BACKSLASHES: "\\ \\\\ \\n \\' end\\",
  GW_LINES: "first\nsecond\n\n'third'\t",
  GW_UNICODE: "grün 🌱 \u00a0",
};

for (const shell of ["sh", "busybox"]) {
  Deno.test({
    name:
      `writePayload() gives an env file that ${shell} reads back exactly (skipped without it or tar)`,
    ignore: which(shell) === undefined || which("tar") === undefined,
    fn: async () => {
      const dir = await Deno.makeTempDir({ prefix: "gateway-payload-" });
      try {
        const path = join(dir, "payload.tar");
        await writePayload(path, { env: NASTY, manifests: { "a.yaml": "a: 1\n" } });
        await run("tar", { args: ["-xf", path, "-C", dir] });
        // A dot after each value keeps trailing line ends out of the shell's hands.
        const script = `. ./env; printf '%s\\0' ${
          Object.keys(NASTY).map((name) => `"$${name}."`).join(" ")
        }`;
        const args = shell === "sh" ? ["-euc", script] : ["sh", "-euc", script];
        const { stdout } = await run(shell, { args, cwd: dir });
        assertEquals(
          stdout.split("\0").slice(0, -1),
          Object.values(NASTY).map((value) => `${value}.`),
        );
        assertEquals([...Deno.readDirSync(dir)].map((entry) => entry.name).sort(), [
          "env",
          "manifests",
          "payload.tar",
        ]);
      } finally {
        await Deno.remove(dir, { recursive: true });
      }
    },
  });
}
