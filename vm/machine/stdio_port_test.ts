import { assertEquals, assertRejects } from "@std/assert";
import { GatewayError } from "../base/error.ts";
import type { PaceClock } from "../base/pace.ts";
import { encodeFrame, FRAME, readFrames, StdioPort } from "./stdio_port.ts";

async function framesOf(chunks: Uint8Array[]): Promise<[number, number[]][]> {
  const frames: [number, number[]][] = [];
  for await (const frame of readFrames(ReadableStream.from(chunks))) {
    frames.push([frame.type, [...frame.body]]);
  }
  return frames;
}

Deno.test("readFrames() puts frames together however the stream is cut", async () => {
  const bytes = new Uint8Array([
    ...encodeFrame(FRAME.stdout, Uint8Array.of(1, 2, 3)),
    ...encodeFrame(FRAME.stderr, new Uint8Array(0)),
    ...encodeFrame(FRAME.exit, Uint8Array.of(0, 0, 0, 7)),
  ]);
  const expected: [number, number[]][] = [[1, [1, 2, 3]], [2, []], [3, [0, 0, 0, 7]]];
  assertEquals(await framesOf([bytes]), expected);
  assertEquals(await framesOf([...bytes].map((byte) => Uint8Array.of(byte))), expected);
});

Deno.test("readFrames() drops a frame that was cut by the end", async () => {
  assertEquals(await framesOf([encodeFrame(FRAME.stdout, Uint8Array.of(1, 2)).subarray(0, 6)]), []);
});

Deno.test("readFrames() refuses a frame that is too large before its body comes", async () => {
  const announced = Uint8Array.of(FRAME.stdout, 0xff, 0xff, 0xff, 0xf0);
  const error = await assertRejects(() => framesOf([announced]), GatewayError);
  assertEquals([error.code, error.why], [
    "guest-failed",
    "the guest sent a frame of 4294967280 bytes",
  ]);
});

Deno.test("readFrames() copies the largest frame from pieces of one byte, each of them once", async () => {
  const sent = new Uint8Array(1024 * 1024).map((_, at) => at % 251);
  // A connection gives each piece a buffer of 64 KiB, which must not be kept: here it is the same one every time.
  const piece = new Uint8Array(1);
  async function* pieces() {
    for (const byte of encodeFrame(FRAME.stdout, sent)) {
      piece[0] = byte;
      yield piece;
    }
  }
  const [frame] = await Array.fromAsync(readFrames(pieces()));
  assertEquals([frame?.type, frame?.body.length], [FRAME.stdout, sent.length]);
  assertEquals(frame?.body.every((byte, at) => byte === sent[at]), true);
});

/** The port of a guest that sends these frames and takes whatever the host writes, which goes to `written`. */
function portOf(frames: Uint8Array[], written: Uint8Array[] = [], clock?: PaceClock): StdioPort {
  const write = (data: Uint8Array) => {
    written.push(data);
    return Promise.resolve(data.length);
  };
  const conn = { readable: ReadableStream.from(frames), write } as unknown as Deno.UnixConn;
  return new StdioPort(conn, clock);
}

const taken = { write: (data: Uint8Array) => Promise.resolve(data.length) };
const streams = () => ({ stdin: new Blob([]).stream(), stdout: taken, stderr: taken });
const exit = (code: number) => encodeFrame(FRAME.exit, Uint8Array.of(0, 0, 0, code));

Deno.test("StdioPort.run() gives 141 when stdout's reader goes away, and goes on without stderr's", async () => {
  const frames = [
    encodeFrame(FRAME.stderr, Uint8Array.of(1)),
    encodeFrame(FRAME.stdout, Uint8Array.of(2)),
    exit(7),
  ];
  const closed = { write: () => Promise.reject(new Deno.errors.BrokenPipe("closed")) };
  for (const [stdout, stderr, code] of [[closed, taken, 141], [taken, closed, 7]] as const) {
    assertEquals(await portOf(frames).run({ ...streams(), stdout, stderr }), code);
  }
});

Deno.test("StdioPort.run() refuses an exit code that is not four bytes", async () => {
  for (const length of [0, 1, 5]) {
    const port = portOf([encodeFrame(FRAME.exit, new Uint8Array(length))]);
    const error = await assertRejects(() => port.run(streams()), GatewayError);
    assertEquals(error.why, `the guest sent an exit code of ${length} bytes`);
  }
});

Deno.test("StdioPort.run() reads stdin once when the guest reports many times that it is ready", async () => {
  const ready = encodeFrame(FRAME.ready, new Uint8Array(0));
  const written: Uint8Array[] = [];
  let reads = 0;
  // Never ends, as a terminal on which nobody types.
  const stdin = new ReadableStream<Uint8Array>({ pull: () => new Promise(() => reads++) }, {
    highWaterMark: 0,
  });
  const frames = [...Array<Uint8Array>(1000).fill(ready), exit(7)];
  assertEquals(await portOf(frames, written).run({ ...streams(), stdin }), 7);
  assertEquals(written.filter(([type]) => type === FRAME.ready).length, 1);
  assertEquals(reads, 1);
});

Deno.test("StdioPort.run() takes frames no faster than its rate", async () => {
  let nowMs = 0;
  const clock: PaceClock = {
    nowMs: () => nowMs,
    wait: (ms) => {
      nowMs += ms;
      return Promise.resolve();
    },
  };
  const empty = encodeFrame(FRAME.stderr, new Uint8Array(0));
  const frames = [...Array<Uint8Array>(30_000).fill(empty), exit(0)];
  assertEquals(await portOf(frames, [], clock).run(streams()), 0);
  // Three seconds' worth, less the burst that does not wait.
  assertEquals(nowMs >= 2900 && nowMs <= 3100, true, `${nowMs} ms`);
});
