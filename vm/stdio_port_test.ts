import { assertEquals } from "@std/assert";
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

Deno.test("StdioPort.run() gives 141 when stdout's reader goes away, and goes on without stderr's", async () => {
  const frames = [
    encodeFrame(FRAME.stderr, Uint8Array.of(1)),
    encodeFrame(FRAME.stdout, Uint8Array.of(2)),
    encodeFrame(FRAME.exit, Uint8Array.of(0, 0, 0, 7)),
  ];
  const closed = { write: () => Promise.reject(new Deno.errors.BrokenPipe("closed")) };
  const open = { write: (data: Uint8Array) => Promise.resolve(data.length) };
  for (const [stdout, stderr, code] of [[closed, open, 141], [open, closed, 7]] as const) {
    const conn = { readable: ReadableStream.from(frames), ...open } as unknown as Deno.UnixConn;
    const streams = { stdin: new Blob([]).stream(), stdout, stderr };
    assertEquals(await new StdioPort(conn).run(streams), code);
  }
});
