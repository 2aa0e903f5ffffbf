/**
 * Makes the disk of the suite's case about layers.
 *
 * @module
 */
import { join } from "@std/path";
import { run } from "../../vm/base/process.ts";
import { saveDiskChain } from "../../vm/instance/disk_chain.ts";

/** Of the disk, in the order in which they are made. */
export const LAYERED_FILES = ["base.raw", "over.qcow2", "disk.json"];

/** Writes `base.raw`, over it `over.qcow2`, and their record, by which a VMM may open both, into a folder. */
export async function makeLayeredDisk(dir: string): Promise<void> {
  await Deno.writeFile(join(dir, "base.raw"), new Uint8Array(8 * 1024 * 1024).fill(0x2e));
  await run("qemu-img", {
    args: ["create", "-q", "-f", "qcow2", "-F", "raw", "-b", "base.raw", "over.qcow2"],
    cwd: dir,
    timeoutMs: 30_000,
  });
  await saveDiskChain(dir, {
    head: { name: "over.qcow2", format: "qcow2" },
    below: [{ name: "base.raw", format: "raw" }],
  });
}
