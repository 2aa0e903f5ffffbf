/**
 * The folder of an instance before it is one and while it is removed. A mark in it says that no guest has written to its
 * disk: then what a killed command has left there can go.
 * Everything here is for the holder of the instance's lock.
 *
 * @module
 */
import { dirname, join } from "@std/path";
import { removeDurable } from "../base/durable.ts";
import { GatewayError } from "../base/error.ts";
import { exists, type InstancePaths } from "../base/layout.ts";
import { isStateFile, slotRecord } from "./saved_state.ts";

type InDir = Pick<InstancePaths, "dir">;

const mark = ({ dir }: InDir) => join(dir, "unfinished");

/** Says that nothing of the folder's disk was written by a guest. */
export async function markUnfinished(paths: InDir): Promise<void> {
  await Deno.writeTextFile(mark(paths), "", { mode: 0o600 });
}

/** Says that a guest may write from now on. */
export async function markFinished(paths: InDir): Promise<void> {
  if (await isUnfinished(paths)) await removeDurable(mark(paths));
}

/** Whether a command that makes or removes the instance is at work, or was killed. */
export async function isUnfinished(paths: InDir): Promise<boolean> {
  return await exists(mark(paths));
}

/** What the folder holds besides lock and mark. */
export async function folderContent({ dir }: InDir): Promise<string[]> {
  const names: string[] = [];
  try {
    for await (const { name } of Deno.readDir(dir)) {
      if (name !== "lock" && name !== "unfinished") names.push(name);
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return names.sort();
}

/** The first file of a disk or a saved state in the folder; undefined when there is none. */
export async function findDiskFile(paths: InDir): Promise<string | undefined> {
  return (await folderContent(paths)).find(isDiskFile);
}

const isDiskFile = (name: string) =>
  isStateFile(name) || /^(state\.img|disk\.json|suspend\.json(\.spent)?|snapshots)$/.test(name);

/**
 * Takes away what killed commands have left: all of a folder that never became an instance, and a disk that was never whole.
 * Gives whether the folder is that of a new instance.
 *
 * @throws GatewayError `instance-schema` when there is a disk whose instance.json is gone.
 */
export async function settleFolder(paths: InstancePaths): Promise<boolean> {
  const known = await exists(paths.instanceFile);
  if (await isUnfinished(paths)) {
    if (!known) await emptyFolder(paths);
    // The first start writes vm.json after the disk, and a clone's slot comes last.
    else if (!await exists(paths.vmFile) && !await exists(slotRecord(paths))) await dropDisk(paths);
    if (known) await markFinished(paths);
  } else if (!known) {
    const left = await findDiskFile(paths);
    if (left !== undefined) throw recordGone(paths, left);
  }
  if (!known) await markUnfinished(paths);
  return !known;
}

/** Removes a disk that no guest has written. */
export async function dropDisk(paths: InDir): Promise<void> {
  for (const name of await folderContent(paths)) {
    if (isDiskFile(name)) await Deno.remove(join(paths.dir, name), { recursive: true });
  }
}

async function emptyFolder(paths: InDir): Promise<void> {
  for (const name of await folderContent(paths)) {
    await Deno.remove(join(paths.dir, name), { recursive: true });
  }
}

/**
 * Removes the folder; of one that is a link to another disk, what is there and the link. The lock's file goes last: whoever
 * waits for it finds it gone and begins anew.
 */
export async function removeFolder(paths: InstancePaths): Promise<void> {
  const { dir, instanceFile, lockFile } = paths;
  const isLink = (await Deno.lstat(dir)).isSymlink;
  const place = isLink ? await Deno.realPath(dir) : dir;
  await markUnfinished(paths);
  await removeDurable(instanceFile);
  await emptyFolder(paths);
  await removeDurable(mark(paths), lockFile);
  try {
    await Deno.remove(place);
    if (isLink) await Deno.remove(dir);
  } catch {
    // Another command has begun a new instance in it.
    return;
  }
  await removeEmptyDir(dirname(dir));
}

/** Nothing happens to a folder with something in it, nor to a link of the user's to another disk. */
export async function removeEmptyDir(path: string): Promise<void> {
  try {
    if ((await Deno.lstat(path)).isDirectory) await Deno.remove(path);
  } catch {
    // It is not there, or not empty.
  }
}

function recordGone({ name, dir, instanceFile }: InstancePaths, left: string): GatewayError {
  return new GatewayError({
    code: "instance-schema",
    what: `Cannot use the folder "${dir}"`,
    why: `"${instanceFile}" is gone and "${left}" is there`,
    fix: `restore the file, or remove what is left with \`gateway rm --force ${name}\``,
  });
}
