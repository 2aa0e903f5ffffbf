/**
 * Makes the disk of the suite's case about layers.
 *
 * @module
 */
import { join } from "@std/path";
import { run } from "../../vm/process.ts";

/** Writes `base.raw` and, over it, `over.qcow2` into a folder. */
export async function makeLayeredDisk(dir: string): Promise<void> {
  await Deno.writeFile(join(dir, "base.raw"), new Uint8Array(8 * 1024 * 1024).fill(0x2e));
  await run("qemu-img", {
    args: ["create", "-q", "-f", "qcow2", "-F", "raw", "-b", "base.raw", "over.qcow2"],
    cwd: dir,
    timeoutMs: 30_000,
  });
}
