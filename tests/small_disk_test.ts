/**
 * A data folder on a file system that is too small: what was half made is gone, and the error is `disk-full`.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { run, which } from "../vm/base/process.ts";
import { denoArgs } from "./sandbox.ts";

const WRITER = fromFileUrl(new URL("fakes/small_disk.ts", import.meta.url));
const TOOLS = ["unshare", "mount", "mkfs.ext4"];

for (const what of ["state disk", "shared file", "record"]) {
  Deno.test({
    name: `a ${what} that does not fit is disk-full and leaves nothing (needs root, ${TOOLS})`,
    ignore: Deno.uid() !== 0 || TOOLS.some((tool) => which(tool) === undefined),
    fn: async () => {
      const top = await Deno.makeTempDir({ prefix: "gw-small-" });
      const small = join(top, "small");
      await Deno.mkdir(small);
      await Deno.writeFile(join(top, "large"), new Uint8Array(4 * 1024 * 1024).fill(1));
      try {
        // A file system in memory, in a mount namespace of its own: it goes with the process.
        const script = 'mount -t tmpfs -o size=1m tmpfs "$1" && shift && exec "$@"';
        const { stdout } = await run("unshare", {
          args: [
            ...["-m", "sh", "-c", script, "sh", small, Deno.execPath()],
            ...denoArgs(WRITER, [what, small, join(top, "large")]),
          ],
          timeoutMs: 30_000,
        });
        assertEquals(JSON.parse(stdout), { code: "disk-full", left: [] });
      } finally {
        await Deno.remove(top, { recursive: true });
      }
    },
  });
}
