/**
 * The state disk: a sparse file, formatted once. A file that is neither empty nor ours is refused.
 * It must not format a file that it did not make in the same call.
 *
 * @module
 */
import { renameDurable, syncFile } from "../base/durable.ts";
import { asDiskFull, GatewayError } from "../base/error.ts";
import { exists } from "../base/layout.ts";
import { readUpTo } from "../base/lines.ts";
import { run, which } from "../base/process.ts";
import { QCOW2_MAGIC } from "./qcow2.ts";

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
  const head = await readUpTo(file, HEAD_BYTES);
  if (head.every((byte) => byte === 0)) {
    // Zeros at the start prove nothing about the rest; a file without a single block is all zeros.
    return (await file.stat()).blocks === 0 ? "empty" : "foreign";
  }
  const [low = 0, high = 0] = head.subarray(SUPERBLOCK + 0x38, SUPERBLOCK + 0x3a);
  const magic = low | (high << 8);
  const label = new TextDecoder().decode(head.subarray(SUPERBLOCK + 0x78, SUPERBLOCK + 0x88))
    .replace(/\0.*$/s, "");
  return magic === 0xef53 && label === STATE_LABEL ? "ours" : "foreign";
}

/**
 * Makes the disk when there is none. Never resizes or formats a file that was there. Where this host has mkfs.ext4 the
 * new disk comes formatted (30 ms here, a second in an emulated guest), else it is an empty sparse file that the guest
 * formats.
 *
 * @throws GatewayError `state-disk-foreign` for a file with somebody else's data; `process-failed` when mkfs fails,
 * `disk-full`.
 */
export async function ensureStateDisk(
  path: string,
  sizeMiB: number,
  signal?: AbortSignal,
): Promise<StateDiskKind> {
  const sizeBytes = sizeMiB * 1024 * 1024;
  if (!await exists(path)) return await makeStateDisk(path, sizeBytes, signal);
  const kind = await inspectStateDisk(path);
  if (kind === "foreign") throw foreignDisk(path);
  return kind;
}

/** Refuses a file that is no overlay. @throws GatewayError `state-disk-foreign`. */
export async function checkOverlay(path: string): Promise<void> {
  using file = await Deno.open(path);
  const magic = new Uint8Array(4);
  const read = await file.read(magic);
  const found = new DataView(magic.buffer).getUint32(0);
  if (read !== 4 || found !== QCOW2_MAGIC) throw foreignDisk(path);
}

function foreignDisk(path: string): GatewayError {
  return new GatewayError({
    code: "state-disk-foreign",
    what: `Cannot use "${path}" as the state disk`,
    why: "it holds data that gateway did not write",
    fix: "move the file away; gateway formats only disks that are empty",
  });
}

async function makeStateDisk(
  path: string,
  sizeBytes: number,
  signal?: AbortSignal,
): Promise<StateDiskKind> {
  // Renamed when done: a start that is cut here leaves no half-made file system behind.
  const temporary = `${path}.new`;
  await Deno.remove(temporary).catch(() => {});
  try {
    {
      using file = await Deno.open(temporary, { write: true, createNew: true, mode: 0o600 });
      await file.truncate(sizeBytes);
    }
    const mkfs = which("mkfs.ext4");
    if (mkfs) {
      const fresh = "nodiscard,assume_storage_prezeroed=1,lazy_itable_init=1,lazy_journal_init=1";
      // assume_storage_prezeroed came with e2fsprogs 1.47; older ones take the lazy settings alone.
      const make = (settings: string, check: boolean) =>
        run(mkfs, {
          args: ["-q", "-F", "-L", STATE_LABEL, "-m", "1", "-E", settings, temporary],
          signal,
          timeoutMs: 60_000,
          check,
          what: `Cannot make a file system in "${path}"`,
        });
      const first = await make(fresh, false);
      if (first.code !== 0) await make(fresh.replace("assume_storage_prezeroed=1,", ""), true);
    }
    await syncFile(temporary);
    await renameDurable(temporary, path);
  } catch (error) {
    await Deno.remove(temporary).catch(() => {});
    throw asDiskFull(error, path);
  }
  return await inspectStateDisk(path);
}
