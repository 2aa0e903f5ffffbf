/**
 * Makes the disk of the suite's case about layers.
 *
 * @module
 */
import { join } from "@std/path";
import { saveDiskChain } from "../../vm/instance/disk_chain.ts";
import { emptyOverlay } from "../../vm/instance/qcow2.ts";

/** Of the disk, in the order in which they are made. */
export const LAYERED_FILES = ["base.raw", "over.qcow2", "disk.json"];

const BASE_BYTES = 8 * 1024 * 1024;

/** Writes `base.raw`, over it `over.qcow2`, and their record, by which a VMM may open both, into a folder. */
export async function makeLayeredDisk(dir: string): Promise<void> {
  await Deno.writeFile(join(dir, "base.raw"), new Uint8Array(BASE_BYTES).fill(0x2e));
  const base = { name: "base.raw", format: "raw" } as const;
  await Deno.writeFile(join(dir, "over.qcow2"), emptyOverlay(base, BASE_BYTES));
  await saveDiskChain(dir, {
    head: { name: "over.qcow2", format: "qcow2" },
    below: [base],
  });
}
