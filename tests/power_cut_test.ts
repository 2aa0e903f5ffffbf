/**
 * The host loses power right after a guest has flushed what it wrote: the instance starts again, and the data is there.
 * On file systems of a test's own, shut down by the kernel without writing what is only in memory.
 *
 * @module
 */
import { fromFileUrl, join } from "@std/path";
import { run } from "../vm/base/process.ts";
import { whyNoPowerCut } from "./fakes/power.ts";
import { denoArgs } from "./sandbox.ts";

const PROGRAM = fromFileUrl(new URL("fakes/power_cut.ts", import.meta.url));
const SCRIPT = `set -e
img=$1 mnt=$2
shift 2
mount -o loop "$img" "$mnt"
"$@" write "$STEP" "$mnt" "$SOCKETS"
umount "$mnt"
mount -o loop "$img" "$mnt"
"$@" read "$STEP" "$mnt" "$SOCKETS"
umount "$mnt"
`;

for (const kind of ["ext4", "xfs"]) {
  for (
    const step of [
      ...["new instance", "snapshot", "snapshot of an idle guest", "suspend", "resume", "restore"],
      "fork",
    ]
  ) {
    const missing = await whyNoPowerCut(kind);
    Deno.test({
      name: `what a guest has flushed is there after a power cut on ${kind}: ${step}` +
        (missing === undefined ? "" : ` (skipped: ${missing})`),
      ignore: missing !== undefined,
      fn: async () => {
        const top = await Deno.makeTempDir({ prefix: "gw-" });
        const at = (name: string) => join(top, name);
        try {
          for (const name of ["mnt", "sockets"]) await Deno.mkdir(at(name));
          await run("truncate", { args: ["-s", "512M", at("img")] });
          await run(`mkfs.${kind}`, { args: ["-q", at("img")] });
          // The mounts go with their namespace, also when something fails.
          await run("unshare", {
            args: [
              ...["-m", "sh", "-c", SCRIPT, "sh", at("img"), at("mnt"), Deno.execPath()],
              ...denoArgs(PROGRAM, []),
            ],
            env: { STEP: step, SOCKETS: at("sockets") },
            timeoutMs: 120_000,
          });
        } finally {
          await Deno.remove(top, { recursive: true });
        }
      },
    });
  }
}
