/**
 * Directories that appear whole or not at all, and small readers that take absence as an answer.
 * Single files are vm/base/durable.ts's. It must not know what the files mean.
 *
 * @module
 */
import { dirname, join } from "@std/path";
import { renameDurable, syncDir, writeNewFile } from "../../vm/base/durable.ts";
import { asDiskFull } from "../../vm/base/error.ts";
import { exists } from "../../vm/base/layout.ts";

/** One file of a swapped directory. */
export interface DirectoryEntry {
  /** Its bytes, or its text as UTF-8. */
  readonly data: string | Uint8Array;
  /** Permission bits, 0600 by default. */
  readonly mode?: number;
}

/**
 * Replaces a whole directory (mode 0700) by rename. A crash between the two renames leaves `PATH.old`,
 * which {@linkcode recoverDirectory} puts back. One writer at a time: the caller holds the lock.
 *
 * @throws GatewayError `disk-full`.
 */
export async function replaceDirectory(
  path: string,
  files: Readonly<Record<string, DirectoryEntry>>,
): Promise<void> {
  const fresh = `${path}.new`;
  const stale = `${path}.old`;
  await recoverDirectory(path);
  try {
    await Deno.mkdir(dirname(path), { recursive: true, mode: 0o700 });
    await Deno.mkdir(fresh, { mode: 0o700 });
    for (const [name, entry] of Object.entries(files)) {
      await writeNewFile(join(fresh, name), entry.data, entry.mode ?? 0o600);
    }
    await syncDir(fresh);
    if (await exists(path)) await renameDurable(path, stale);
    await renameDurable(fresh, path);
  } catch (error) {
    await recoverDirectory(path);
    throw asDiskFull(error, path);
  }
  await removeIfThere(stale);
}

/** Cleans up after a {@linkcode replaceDirectory} that was killed: the last whole directory is back. */
export async function recoverDirectory(path: string): Promise<void> {
  const stale = `${path}.old`;
  if (await exists(stale) && !(await exists(path))) await Deno.rename(stale, path);
  await removeIfThere(`${path}.new`);
  await removeIfThere(stale);
}

/** Keeps what cannot be read as `PATH.damaged`, in the place of an earlier one: something else takes its place. */
async function setAside(path: string): Promise<void> {
  await removeIfThere(`${path}.damaged`);
  await renameDurable(path, `${path}.damaged`);
}

/** The text of a file, or undefined when there is none. */
export async function readTextIfThere(path: string): Promise<string | undefined> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw error;
  }
}

/** Below a file there is nothing either. */
function isAbsent(error: unknown): boolean {
  return error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory;
}

/** Removes a file or a tree; false when it was not there. A symbolic link is removed, not followed. */
export async function removeIfThere(path: string): Promise<boolean> {
  try {
    await Deno.remove(path, { recursive: true });
    return true;
  } catch (error) {
    if (isAbsent(error)) return false;
    throw error;
  }
}

/**
 * Gives what a private folder's one file holds, or makes it. What cannot be read is set aside first. The caller holds the
 * lock of the folder's owner.
 *
 * @throws GatewayError `disk-full`.
 */
export async function ensureFileIn<T>(
  dir: string,
  name: string,
  read: (text: string) => T | undefined,
  make: () => string | Promise<string>,
): Promise<T> {
  await recoverDirectory(dir);
  const stored = await readTextIfThere(join(dir, name));
  const kept = stored === undefined ? undefined : read(stored);
  if (kept !== undefined) return kept;
  if (stored !== undefined) await setAside(dir);
  const made = await make();
  await replaceDirectory(dir, { [name]: { data: made } });
  return read(made)!;
}
