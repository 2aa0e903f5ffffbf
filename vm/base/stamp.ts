/**
 * What is remembered of a file whose digest was computed: which inode of which size and times had it.
 * It must not decide whether a stamp may be believed (artifact.ts).
 *
 * @module
 */
import { writeCacheFile } from "./durable.ts";
import { pause } from "./wait.ts";

/** A file system's times stand still for as long as this: a tick of the kernel's clock is up to 10 ms. */
const TICK_MS = 20;

const stampPath = (path: string) => `${path}.verified`;

/** The stamp of a file with this digest. */
export function stampText(sha256: string, info: Deno.FileInfo): string {
  return [sha256, info.ino, info.size, info.mtime?.getTime(), info.ctime?.getTime()].join(" ");
}

/** The stamp beside a file, empty when there is none. */
export async function readStamp(path: string): Promise<string> {
  return await Deno.readTextFile(stampPath(path)).catch(() => "");
}

/** Writes the stamp beside a file, if that is possible: a store that is read-only is still usable, only slower. */
export async function keepStamp(path: string, sha256: string, info: Deno.FileInfo): Promise<void> {
  // What is changed in the tick in which it was made keeps its times.
  const ageMs = Date.now() - (info.ctime?.getTime() ?? 0);
  if (ageMs >= 0 && ageMs < TICK_MS) await pause(TICK_MS - ageMs);
  await writeCacheFile(stampPath(path), stampText(sha256, info), 0o644).catch(() => {});
}
