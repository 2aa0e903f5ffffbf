/**
 * The end of a lock on a file, as flock(2) has it.
 * It must not know who locks what.
 *
 * @module
 */

/**
 * Gives a lock back and closes its file. Closing alone is not enough: a program that another thread starts at this moment
 * has the file until its exec, and with it the lock.
 */
export function releaseLock(lock: Deno.FsFile): void {
  try {
    lock.unlockSync();
  } finally {
    lock.close();
  }
}

/** A file that may hold a lock, for `using`: its end is {@linkcode releaseLock}. */
export function ownLock(file: Deno.FsFile): Disposable {
  return { [Symbol.dispose]: () => releaseLock(file) };
}
