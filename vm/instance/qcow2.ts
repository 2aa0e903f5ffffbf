/**
 * The bytes of an empty qcow2 overlay, version 3, as QEMU's docs/interop/qcow2.rst defines them. Written here so that a
 * host needs no qemu-img, which a Mac with libkrun lacks.
 * It must not touch a file.
 *
 * @module
 */

/** "QFI" and 0xfb, which begin every qcow2 file, as the number that is read there. */
export const QCOW2_MAGIC = 0x514649fb;

const CLUSTER_BITS = 16;
const CLUSTER = 1 << CLUSTER_BITS;
/** A table of the second level is one cluster of entries, each for one cluster of the disk. */
const BYTES_PER_L1_ENTRY = CLUSTER * (CLUSTER / 8);
/** Two bytes for each cluster of the file. */
const REFCOUNT_ORDER = 4;
const HEADER_BYTES = 104;
const BACKING_FORMAT = 0xe2792aca;
/** The file below a file is named in at most so many bytes. */
const MAX_NAME_BYTES = 1023;

/** An overlay that holds nothing: a guest reads `below`, a file of the same folder, through it. */
export function emptyOverlay(
  below: { readonly name: string; readonly format: "raw" | "qcow2" },
  diskBytes: number,
): Uint8Array {
  const name = new TextEncoder().encode(below.name);
  if (name.length > MAX_NAME_BYTES) throw new RangeError(`"${below.name}" is too long a name`);
  const l1Entries = Math.ceil(diskBytes / BYTES_PER_L1_ENTRY);
  const l1Clusters = Math.ceil(l1Entries * 8 / CLUSTER);
  // One cluster each: the header, the table of refcounts, its one block; then the first level's table, empty.
  const clusters = 3 + l1Clusters;
  const bytes = new Uint8Array(clusters * CLUSTER);
  const view = new DataView(bytes.buffer);
  const u32 = (at: number, value: number) => view.setUint32(at, value);
  const u64 = (at: number, value: number) => view.setBigUint64(at, BigInt(value));
  const nameAt = HEADER_BYTES + 24;

  u32(0, QCOW2_MAGIC);
  u32(4, 3);
  u64(8, nameAt);
  u32(16, name.length);
  u32(20, CLUSTER_BITS);
  u64(24, diskBytes);
  u32(36, l1Entries);
  u64(40, 3 * CLUSTER);
  u64(48, CLUSTER);
  u32(56, 1);
  u32(96, REFCOUNT_ORDER);
  u32(100, HEADER_BYTES);
  u32(HEADER_BYTES, BACKING_FORMAT);
  u32(HEADER_BYTES + 4, below.format.length);
  bytes.set(new TextEncoder().encode(below.format), HEADER_BYTES + 8);
  // Eight bytes of zeros end the list of extensions, and stand before the name.
  bytes.set(name, nameAt);
  u64(CLUSTER, 2 * CLUSTER);
  for (let at = 0; at < clusters; at++) view.setUint16(2 * CLUSTER + at * 2, 1);
  return bytes;
}
