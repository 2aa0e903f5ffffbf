/**
 * Newline-delimited text over a byte stream.
 * It must not know any protocol.
 *
 * @module
 */

import { type SettleOptions, settleWithin } from "./wait.ts";

/** The longest line that is read whole unless the caller has a bound of its own: far above any that QEMU sends. */
const MAX_LINE_LENGTH = 1024 * 1024;

/**
 * The stream's lines without their ends; a last line without an end counts. Of a line with more than `maxLength`
 * characters only the beginning is returned, so that one that never ends costs no memory.
 */
export async function* readLines(
  stream: AsyncIterable<Uint8Array>,
  maxLength = MAX_LINE_LENGTH,
): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of stream) {
    const pieces = decoder.decode(chunk, { stream: true }).split("\n");
    for (const [at, piece] of pieces.entries()) {
      if (at > 0) {
        yield rest.endsWith("\r") ? rest.slice(0, -1) : rest;
        rest = "";
      }
      if (rest.length < maxLength) rest += piece.slice(0, maxLength - rest.length);
    }
  }
  if (rest !== "") yield rest;
}

/** Writes the whole buffer. */
export async function writeAll(
  conn: { write(data: Uint8Array): Promise<number> },
  data: Uint8Array,
): Promise<void> {
  let at = 0;
  while (at < data.length) at += await conn.write(data.subarray(at));
}

/** Reads so many bytes, less where the source ends before. */
export async function readUpTo(
  source: { read(data: Uint8Array): Promise<number | null> },
  length: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const buffer = new Uint8Array(length);
  let filled = 0;
  while (filled < length) {
    const read = await source.read(buffer.subarray(filled));
    if (read === null) break;
    filled += read;
  }
  return buffer.subarray(0, filled);
}

/** Connects to a unix socket, or undefined while nobody listens there. */
export async function connectUnix(path: string): Promise<Deno.UnixConn | undefined> {
  try {
    return await Deno.connect({ transport: "unix", path });
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.ConnectionRefused) {
      return undefined;
    }
    throw error;
  }
}

/** Listens at a new path of mode 0600, in a folder of the user's own. */
export function listenPrivate(path: string): Deno.UnixListener {
  const listener = Deno.listen({ transport: "unix", path });
  try {
    Deno.chmodSync(path, 0o600);
  } catch (error) {
    listener.close();
    throw error;
  }
  return listener;
}

/** A conversation in lines over a unix socket; disposing ends it. */
export class LineConnection implements Disposable {
  readonly #lines: AsyncGenerator<string, void>;

  private constructor(private readonly conn: Deno.UnixConn) {
    this.#lines = readLines(conn.readable);
  }

  /** Connects; undefined while nobody listens there. */
  static async connect(path: string): Promise<LineConnection | undefined> {
    const conn = await connectUnix(path);
    return conn && new LineConnection(conn);
  }

  /** Writes one line. */
  async say(line: string): Promise<void> {
    await writeAll(this.conn, new TextEncoder().encode(`${line}\n`));
  }

  /** The other side's next line; undefined when it is gone. @throws as settleWithin(). */
  async hear(options: SettleOptions): Promise<string | undefined> {
    return (await settleWithin(this.#lines.next(), options)).value ?? undefined;
  }

  [Symbol.dispose](): void {
    try {
      this.conn.close();
    } catch {
      // The other side's end closed it.
    }
  }
}
