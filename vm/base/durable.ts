/**
 * Files that outlast a power cut: each is flushed, renamed into its place, and the folder that names it is flushed.
 * It must not know what is in them.
 *
 * @module
 */
import { dirname, join } from "@std/path";
import { asHostError, describeError } from "./error.ts";
import { writeAll } from "./lines.ts";

/**
 * Writes a whole file by a temporary name and a rename, so that a reader sees the old or the new one. Both are on the
 * disk when it returns: a power cut leaves no empty file. With `sizeBytes` the file ends in so many zeros that it has that
 * size, which take no place.
 *
 * @throws GatewayError `permission`, `disk-full`; or what the runtime throws.
 */
export async function writeFileAtomic(
  path: string,
  data: string | Uint8Array,
  mode = 0o600,
  sizeBytes?: number,
): Promise<void> {
  await replaceFile(path, data, { mode, durable: true, sizeBytes });
}

/**
 * Writes a whole file as {@linkcode writeFileAtomic}, but a power cut may leave an empty one. Only for what is made anew
 * when it cannot be read.
 *
 * @throws GatewayError `permission`, `disk-full`; or what the runtime throws.
 */
export async function writeCacheFile(
  path: string,
  data: string | Uint8Array,
  mode = 0o600,
): Promise<void> {
  await replaceFile(path, data, { mode, durable: false });
}

interface NewFile {
  readonly mode: number;
  readonly durable: boolean;
  readonly sizeBytes?: number;
}

async function replaceFile(
  path: string,
  data: string | Uint8Array,
  how: NewFile,
): Promise<void> {
  const temporary = `${path}.tmp-${crypto.randomUUID().slice(0, 8)}`;
  try {
    await writeNew(temporary, data, how);
    await Deno.rename(temporary, path);
    if (how.durable) await syncDir(dirname(path));
  } catch (error) {
    await Deno.remove(temporary).catch(() => {});
    throw asHostError(error);
  }
}

/** Writes a file that is not there yet, of exactly this mode; `durable` puts its bytes on the disk, not its name. */
export async function writeNewFile(
  path: string,
  data: string | Uint8Array,
  mode: number,
  durable = true,
): Promise<void> {
  await writeNew(path, data, { mode, durable });
}

async function writeNew(
  path: string,
  data: string | Uint8Array,
  { mode, durable, sizeBytes }: NewFile,
): Promise<void> {
  const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
  using file = await Deno.open(path, { write: true, createNew: true, mode });
  // The umask may have narrowed a mode such as 0644; the caller asked for exactly this one.
  await Deno.chmod(path, mode);
  await writeAll(file, bytes);
  if (sizeBytes !== undefined) await file.truncate(sizeBytes);
  if (durable) await file.syncData();
}

/** Puts the bytes of a file on the disk. */
export async function syncFile(path: string): Promise<void> {
  using file = await Deno.open(path);
  await file.syncData();
}

/** EIO, ENOSPC, EDQUOT; other errors come from file systems that do not flush folders. */
const NOT_FLUSHED = /os error (5|28|122)\b/;

/** Puts the names in a folder on the disk, where the file system can. */
export async function syncDir(dir: string): Promise<void> {
  try {
    using folder = await Deno.open(dir);
    await folder.sync();
  } catch (error) {
    if (NOT_FLUSHED.test(describeError(error))) throw error;
  }
}

/** Renames a file of a folder; a power cut afterwards does not bring the old name back. */
export async function renameDurable(from: string, to: string): Promise<void> {
  await Deno.rename(from, to);
  await syncDir(dirname(to));
}

/** Removes files, of which some may be gone; a power cut afterwards does not bring them back. */
export async function removeDurable(...paths: readonly string[]): Promise<void> {
  for (const path of paths) {
    await Deno.remove(path).catch((error) => {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    });
  }
  for (const dir of new Set(paths.map((path) => dirname(path)))) await syncDir(dir);
}

/** What {@linkcode writeFileAtomic} calls a file that is not whole yet. */
const TEMPORARY = /\.tmp-[0-9a-f]{8}$/;

/**
 * Removes what {@linkcode writeFileAtomic} left anywhere below a folder when its process was killed. The caller holds the
 * lock of whoever writes there.
 */
export async function sweepTemporaries(dir: string): Promise<void> {
  for await (const { name, isDirectory } of Deno.readDir(dir)) {
    const path = join(dir, name);
    if (isDirectory) await sweepTemporaries(path);
    else if (TEMPORARY.test(name)) await Deno.remove(path).catch(() => {});
  }
}
