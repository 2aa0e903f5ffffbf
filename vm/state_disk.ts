/**
 * The state disk: a sparse file that the guest formats once. A file that is neither empty nor ours is refused.
 * It must not format anything; the guest's init does, and only an all-zero disk.
 *
 * @module
 */
import { GatewayError } from "./error.ts";

/** The ext4 label by which both sides know a state disk. */
export const STATE_LABEL = "gateway-state";

/** What is on a disk image. */
export type StateDiskKind = "empty" | "ours" | "foreign";

// ext4's superblock: at 1024, magic at +0x38, volume label of 16 bytes at +0x78.
const SUPERBLOCK = 1024;
const HEAD_BYTES = 64 * 1024;

/** Looks at the first 64 KiB of an image. */
export async function inspectStateDisk(path: string): Promise<StateDiskKind> {
  using file = await Deno.open(path);
  const head = new Uint8Array(HEAD_BYTES);
  let filled = 0;
  while (filled < head.length) {
    const read = await file.read(head.subarray(filled));
    if (read === null) break;
    filled += read;
  }
  if (head.every((byte) => byte === 0)) return "empty";
  const magic = head[SUPERBLOCK + 0x38] | (head[SUPERBLOCK + 0x39] << 8);
  const label = new TextDecoder().decode(head.subarray(SUPERBLOCK + 0x78, SUPERBLOCK + 0x88))
    .replace(/\0.*$/s, "");
  return magic === 0xef53 && label === STATE_LABEL ? "ours" : "foreign";
}

/**
 * Makes the sparse file when there is none, and grows it when the user asked for more. Never shrinks, never formats.
 *
 * @throws GatewayError `state-disk-foreign` for a file with somebody else's data.
 */
export async function ensureStateDisk(path: string, sizeMiB: number): Promise<StateDiskKind> {
  const sizeBytes = sizeMiB * 1024 * 1024;
  try {
    using file = await Deno.open(path, { write: true, createNew: true, mode: 0o600 });
    await file.truncate(sizeBytes);
    return "empty";
  } catch (error) {
    if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
  }
  const kind = await inspectStateDisk(path);
  if (kind === "foreign") {
    throw new GatewayError({
      code: "state-disk-foreign",
      what: `Cannot use "${path}" as the state disk`,
      why: "it holds data that gateway did not write",
      fix: "move the file away; gateway formats only disks that are empty",
    });
  }
  const { size } = await Deno.stat(path);
  if (size < sizeBytes) await Deno.truncate(path, sizeBytes);
  return kind;
}
