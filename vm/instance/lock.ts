/**
 * The lock of an instance: a file in its folder that a running instance's supervisor holds. A lock counts only while it is
 * the file that the folder names, since a removed instance takes its lock's file along.
 * It must not change anything else of an instance.
 *
 * @module
 */
import { GatewayError } from "../base/error.ts";
import { ensurePrivateDir, type InstancePaths, instancesDir } from "../base/layout.ts";
import { ownLock, releaseLock } from "../base/file_lock.ts";
import { identifyProcess } from "../base/process_table.ts";
import { pause } from "../base/wait.ts";
import { lockHolder, readRun } from "./record.ts";

/** Whether somebody holds the lock. */
export async function isLocked(paths: InstancePaths): Promise<boolean> {
  let file: Deno.FsFile;
  try {
    file = await Deno.open(paths.lockFile);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
  using _held = ownLock(file);
  // A shared lock: many may look at once, and an `up` that meets one tries again.
  return !await file.tryLock(false);
}

/** So often a folder may be removed by others while we wait for its lock. */
const LOST_AT_MOST = 1000;

/**
 * Takes the lock, making folder and file where there are none. releaseLock() gives it back.
 *
 * @throws GatewayError `instance-running` when somebody else holds it, `permission`.
 */
export async function lockInstance(
  paths: InstancePaths,
  signal?: AbortSignal,
): Promise<Deno.FsFile> {
  for (let lost = 0; lost < LOST_AT_MOST; lost++) {
    const lock = await openLock(paths);
    if (!lock) continue;
    try {
      await takeLock(lock, paths, signal);
      // Whoever removed the instance meanwhile held the lock until its file was gone.
      if (await isInPlace(lock, paths.lockFile)) {
        await signLock(lock);
        return lock;
      }
    } catch (error) {
      releaseLock(lock);
      throw error;
    }
    releaseLock(lock);
  }
  throw new GatewayError({
    code: "instance-running",
    what: `Cannot start the instance "${paths.name}"`,
    why: "other commands make and remove it all the time",
    fix: "wait until they have ended, or choose another --name",
  });
}

/** Undefined where the folder went while we made it. */
async function openLock(paths: InstancePaths): Promise<Deno.FsFile | undefined> {
  try {
    await ensurePrivateDir(instancesDir(), { mayLink: true });
    await ensurePrivateDir(paths.dir, { mayLink: true });
    return await Deno.open(paths.lockFile, { create: true, write: true, mode: 0o600 });
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** Whether a path still names the file whose lock is held: who removes a folder takes its lock's file along. */
export async function isInPlace(lock: Deno.FsFile, path: string): Promise<boolean> {
  const held = await lock.stat();
  const named = await Deno.stat(path).catch((error) => {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  });
  return named !== undefined && named.ino === held.ino && named.dev === held.dev;
}

async function takeLock(
  lock: Deno.FsFile,
  paths: InstancePaths,
  signal?: AbortSignal,
): Promise<void> {
  // `status` holds a shared lock for a moment; ten tries outlast it.
  for (let attempt = 0; attempt < 10; attempt++) {
    if (await lock.tryLock(true)) return;
    await pause(50, signal);
  }
  const run = await readRun(paths);
  const supervisor = await lockHolder(paths) ??
    (run === "unreadable" ? undefined : run?.supervisor);
  throw new GatewayError({
    code: "instance-running",
    what: `Cannot start the instance "${paths.name}"`,
    why: supervisor ? `it is running already (supervisor ${supervisor.pid})` : "it is locked",
    fix: `use it, stop it with \`gateway down --name ${paths.name}\`, or choose another --name`,
  });
}

/** Says in the lock who holds it: the record of the run may be empty after a power cut. */
async function signLock(lock: Deno.FsFile): Promise<void> {
  const text = JSON.stringify(identifyProcess(Deno.pid) ?? { pid: Deno.pid, startTime: "" });
  try {
    await lock.truncate();
    await lock.write(new TextEncoder().encode(text + "\n"));
  } catch {
    // A full disk: the lock itself is held all the same.
  }
}
