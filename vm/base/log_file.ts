/**
 * Logs that programs of ours append to and that a guest can make grow: keeping them small, and reading them meanwhile.
 *
 * @module
 */
import { readUpTo, writeAll } from "./lines.ts";
import { repeat } from "./wait.ts";

/** A log that takes up more space than this is cut; of a longer one only the end is shown. */
const MAX_LOG_BYTES = 8 * 1024 * 1024;

/** How much of its end a log keeps when it is cut; also how much is searched for a guest's last words. */
const KEPT_LOG_BYTES = 1024 * 1024;

/** How often sizes are looked at. */
const LOOK_MS = 250;

/** The first line of a log that was cut. Readers that follow it find their place by the number. */
const cutLine = (bytes: number) => `(${bytes} bytes before this line were cut)\n`;
const CUT_LINE = /^\((\d+) bytes before this line were cut\)\n/;
const MAX_CUT_LINE_LENGTH = 64;

/** The last bytes of a file as text. Rejects with what reading rejects with. */
export async function readTail(path: string, bytes = KEPT_LOG_BYTES): Promise<string> {
  using file = await Deno.open(path);
  const { size } = await file.stat();
  return new TextDecoder().decode(await readAt(file, Math.max(0, size - bytes), size));
}

/** Less where the file ends before. */
async function readAt(file: Deno.FsFile, from: number, to: number): Promise<Uint8Array> {
  await file.seek(from, Deno.SeekMode.Start);
  return await readUpTo(file, Math.max(0, to - from));
}

/**
 * Cuts a log down to its end when it takes up more space than allowed. The file stays the same one, so that its writer,
 * which has to append, continues behind what is kept. Never rejects, since a log must not end a guest.
 */
export async function cutLog(
  path: string,
  { maxBytes = MAX_LOG_BYTES, keptBytes = KEPT_LOG_BYTES } = {},
): Promise<void> {
  try {
    using file = await Deno.open(path, { read: true, append: true });
    const { size, blocks } = await file.stat();
    // libkrun does not append: what it writes after a cut lies behind a hole, which takes no space.
    const used = blocks === null ? size : Math.min(size, blocks * 512);
    if (used <= maxBytes) return;
    const tail = await readAt(file, Math.max(0, size - keptBytes), size);
    const kept = tail.subarray(tail.indexOf(0x0a) + 1);
    const first = new TextEncoder().encode(cutLine(size - kept.length));
    await file.truncate(0);
    // In one piece, so that a reader does not find the first line alone.
    const whole = new Uint8Array(first.length + kept.length);
    whole.set(first);
    whole.set(kept, first.length);
    await writeAll(file, whole);
  } catch {
    // The log is not there yet, or the disk is full.
  }
}

/** Keeps logs small until it is disposed. */
export function keepLogsSmall(paths: readonly string[]): AsyncDisposable {
  const ended = new AbortController();
  const cutAll = async () => {
    for (const path of paths) await cutLog(path);
  };
  const done = repeat(cutAll, LOOK_MS, ended.signal);
  return {
    async [Symbol.asyncDispose]() {
      ended.abort();
      await done;
      // What was written in the meantime.
      await cutAll();
    },
  };
}

/** Reads a log as it grows, also when it is cut or begun anew meanwhile. */
export class LogReader {
  #offset = 0;

  constructor(private readonly path: string) {}

  /** What was added since the last call, at most the last 8 MiB of it. Rejects with what reading rejects with. */
  async read(): Promise<Uint8Array> {
    let file: Deno.FsFile;
    try {
      file = await Deno.open(this.path);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return new Uint8Array(0);
      throw error;
    }
    using held = file;
    const { size } = await held.stat();
    const offset = size < this.#offset ? await this.#placeIn(held, size) : this.#offset;
    if (offset === undefined) return new Uint8Array(0);
    const from = Math.max(offset, size - MAX_LOG_BYTES);
    const bytes = await readAt(held, from, size);
    this.#offset = from + bytes.length;
    return bytes;
  }

  /** Where we are in a log that became shorter; undefined while it is being written again. */
  async #placeIn(file: Deno.FsFile, size: number): Promise<number | undefined> {
    const head = new TextDecoder().decode(await readAt(file, 0, MAX_CUT_LINE_LENGTH));
    if (head.length < MAX_CUT_LINE_LENGTH && !head.includes("\n")) return undefined;
    const [line, cut] = CUT_LINE.exec(head) ?? [];
    // A later start has begun it anew, or what comes next was cut, too.
    if (line === undefined || this.#offset <= Number(cut)) return 0;
    const place = line.length + this.#offset - Number(cut);
    return place <= size ? place : undefined;
  }
}
