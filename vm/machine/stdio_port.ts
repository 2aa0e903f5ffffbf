/**
 * The host's end of gw.stdio: carries stdin, stdout, stderr, signals and the exit code of the one command that a
 * VM started with --exec runs. Bytes pass unchanged; back-pressure is the port's own.
 * It must not touch this process's own streams; the caller brings them.
 *
 * @module
 */
import { GatewayError } from "../base/error.ts";
import { writeAll } from "../base/lines.ts";
import { Pace, type PaceClock } from "../base/pace.ts";

/**
 * Frame types, one byte each, followed by a big-endian length of four bytes and the body. `ready` and `exit` go both
 * ways: the host answers each with an empty one, so that no output is lost in a queue that the guest's end takes along.
 */
export const FRAME = { stdin: 0, stdout: 1, stderr: 2, exit: 3, signal: 4, ready: 6 } as const;

const NOTHING = new Uint8Array(0);

/** The largest body we send; the guest reads a frame into memory whole. */
const MAX_BODY = 32 * 1024;

/** Encodes one frame. */
export function encodeFrame(type: number, body: Uint8Array): Uint8Array {
  const frame = new Uint8Array(5 + body.length);
  frame[0] = type;
  new DataView(frame.buffer).setUint32(1, body.length);
  frame.set(body, 5);
  return frame;
}

/** A frame of the guest. */
export interface Frame {
  readonly type: number;
  readonly body: Uint8Array;
}

const HEADER_LENGTH = 5;

// Root in the guest can write to the port what it likes, so the host does not rely on the agent's bounds.

/** The largest body that we take; the agent sends 32 KiB and takes as much as this. */
const MAX_GUEST_BODY = 1024 * 1024;

/** The agent fills its frames while output waits, so that this bounds frames that carry next to nothing. */
const MAX_FRAMES_PER_SECOND = 10_000;

/**
 * The frames in a byte stream. A cut last frame is dropped: the VM died in the middle of it.
 *
 * @throws GatewayError `guest-failed` for a frame that is too large.
 */
export async function* readFrames(stream: AsyncIterable<Uint8Array>): AsyncGenerator<Frame> {
  const header = new Bytes(HEADER_LENGTH);
  let body: Bytes | undefined;
  for await (const chunk of stream) {
    for (let rest = chunk;;) {
      if (body === undefined) {
        rest = header.take(rest);
        if (!header.isFull) break;
        const length = new DataView(header.bytes.buffer).getUint32(1);
        if (length > MAX_GUEST_BODY) throw badFrame(`a frame of ${length} bytes`);
        body = new Bytes(length);
      }
      rest = body.take(rest);
      if (!body.isFull) break;
      yield { type: header.bytes[0]!, body: body.bytes };
      body = undefined;
      header.clear();
    }
  }
}

/** So many bytes of a stream, copied out of its chunks: a small chunk keeps a large buffer in memory. */
class Bytes {
  readonly bytes: Uint8Array<ArrayBuffer>;
  #filled = 0;

  constructor(length: number) {
    this.bytes = new Uint8Array(length);
  }

  /** Copies what is missing and returns the rest of the chunk. */
  take(chunk: Uint8Array): Uint8Array {
    const part = chunk.subarray(0, this.bytes.length - this.#filled);
    this.bytes.set(part, this.#filled);
    this.#filled += part.length;
    return chunk.subarray(part.length);
  }

  get isFull(): boolean {
    return this.#filled === this.bytes.length;
  }

  clear(): void {
    this.#filled = 0;
  }
}

function badFrame(found: string): GatewayError {
  return new GatewayError({
    code: "guest-failed",
    what: "Cannot read the output of the command in the guest",
    why: `the guest sent ${found}`,
    fix: "run it again; if it happens again, root in the guest writes to the port gw.stdio",
  });
}

/** The streams of the command, and how a signal reaches it. */
export interface StdioStreams {
  /** Read until its end, which the command sees as end of file. */
  readonly stdin: ReadableStream<Uint8Array>;
  /** Written in order; a slow writer slows the command down. */
  readonly stdout: { write(data: Uint8Array): Promise<number> };
  /** As stdout. */
  readonly stderr: { write(data: Uint8Array): Promise<number> };
}

/** A connected gw.stdio. `clock` is for tests. */
export class StdioPort {
  constructor(private readonly conn: Deno.UnixConn, private readonly clock?: PaceClock) {}

  /** Passes a signal on to the command. */
  async sendSignal(number: number): Promise<void> {
    await writeAll(this.conn, encodeFrame(FRAME.signal, Uint8Array.of(number)));
  }

  /**
   * Carries the streams until the command's exit code arrives. When stdout's reader goes away, the command is over with
   * the code of a program that wrote into a closed pipe.
   *
   * @throws GatewayError `vm-exited` when the VM ends without one, `guest-failed` for a frame that is not one.
   */
  async run(streams: StdioStreams): Promise<number> {
    let reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
    const pace = new Pace(MAX_FRAMES_PER_SECOND, this.clock);
    try {
      for await (const frame of readFrames(this.conn.readable)) {
        await pace.spend(1);
        if (frame.type === FRAME.ready) {
          if (reader) continue;
          // Our own ready tells the guest that somebody reads; it holds its end until our exit frame.
          await writeAll(this.conn, encodeFrame(FRAME.ready, NOTHING));
          reader = streams.stdin.getReader();
          void this.#pumpStdin(reader);
        } else if (frame.type === FRAME.stdout) {
          if (!await isTaken(streams.stdout, frame.body)) return READER_GONE;
        } else if (frame.type === FRAME.stderr) await isTaken(streams.stderr, frame.body);
        else if (frame.type === FRAME.exit) {
          await writeAll(this.conn, encodeFrame(FRAME.exit, NOTHING)).catch(() => {});
          if (frame.body.length !== 4) {
            throw badFrame(`an exit code of ${frame.body.length} bytes`);
          }
          return new DataView(frame.body.buffer, frame.body.byteOffset).getUint32(0);
        }
      }
    } catch (error) {
      if (!isDisconnect(error)) throw error;
    } finally {
      await reader?.cancel().catch(() => {});
    }
    throw new GatewayError({
      code: "vm-exited",
      what: "Cannot tell how the command ended",
      why: "the VM stopped before it said",
      fix: "run it again; if it happens again, look for an out-of-memory kill: pass more --memory",
    });
  }

  async #pumpStdin(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<void> {
    try {
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        for (let at = 0; at < value.length; at += MAX_BODY) {
          await writeAll(
            this.conn,
            encodeFrame(FRAME.stdin, value.subarray(at, at + MAX_BODY)),
          );
        }
      }
      await writeAll(this.conn, encodeFrame(FRAME.stdin, NOTHING));
    } catch {
      // The command ended before its input did.
    }
  }
}

/** 128 and the number of SIGPIPE. */
const READER_GONE = 141;

/** Writes to a stream of the caller; false when its reader closed the pipe. */
async function isTaken(stream: StdioStreams["stdout"], body: Uint8Array): Promise<boolean> {
  try {
    await writeAll(stream, body);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.BrokenPipe) return false;
    throw error;
  }
}

function isDisconnect(error: unknown): boolean {
  return error instanceof Deno.errors.BrokenPipe || error instanceof Deno.errors.ConnectionReset ||
    error instanceof Deno.errors.BadResource || error instanceof Deno.errors.Interrupted;
}
