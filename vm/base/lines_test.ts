import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { connectUnix, listenPrivate, readLines, writeAll } from "./lines.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

async function linesOf(...chunks: (string | Uint8Array)[]): Promise<string[]> {
  const stream = ReadableStream.from(
    chunks.map((chunk) => typeof chunk === "string" ? bytes(chunk) : chunk),
  );
  return await Array.fromAsync(readLines(stream));
}

Deno.test("readLines() joins a line that comes in pieces", async () => {
  assertEquals(await linesOf("on", "e\ntw", "o\nthree\n"), ["one", "two", "three"]);
});

Deno.test("readLines() counts a last line without an end, and none after one", async () => {
  assertEquals(await linesOf("a\nb"), ["a", "b"]);
  assertEquals(await linesOf("a\n"), ["a"]);
  assertEquals(await linesOf(), []);
});

Deno.test("readLines() keeps empty lines and drops carriage returns at the end only", async () => {
  assertEquals(await linesOf("a\r\n\r\n\nb\rc\n"), ["a", "", "", "b\rc"]);
});

Deno.test("readLines() puts a character together that was cut between two chunks", async () => {
  const [head, tail] = [bytes("ü").subarray(0, 1), bytes("ü\n").subarray(1)];
  assertEquals(await linesOf(head, tail), ["ü"]);
});

Deno.test("readLines() returns the beginning of a line that is too long, and the line after it", async () => {
  const chunks = [...Array(50).fill(bytes("x".repeat(1000))), bytes("\nnext\n")];
  const lines = await Array.fromAsync(readLines(ReadableStream.from(chunks), 64));
  assertEquals(lines, ["x".repeat(64), "next"]);
});

Deno.test("readLines() does not keep a line that never ends", async () => {
  // More than the longest string that there can be.
  const chunk = new Uint8Array(4 * 1024 * 1024).fill(0x41);
  async function* flood() {
    for (let at = 0; at < 160; at++) yield chunk;
  }
  const lines = await Array.fromAsync(readLines(flood()));
  assertEquals(lines.map((line) => line.length), [1024 * 1024]);
});

Deno.test("writeAll() goes on after a short write", async () => {
  const seen: number[] = [];
  const conn = {
    write: (data: Uint8Array) => {
      const count = Math.min(3, data.length);
      seen.push(...data.subarray(0, count));
      return Promise.resolve(count);
    },
  };
  await writeAll(conn, bytes("ten bytes!"));
  assertEquals(new TextDecoder().decode(new Uint8Array(seen)), "ten bytes!");
});

Deno.test("connectUnix() gives undefined while nobody listens, and a connection then", async () => {
  const dir = await Deno.makeTempDir();
  const path = join(dir, "socket");
  assertEquals(await connectUnix(path), undefined);
  const listener = Deno.listen({ transport: "unix", path });
  const [conn, accepted] = await Promise.all([connectUnix(path), listener.accept()]);
  assertEquals(conn !== undefined, true);
  conn!.close();
  accepted.close();
  listener.close();
  await Deno.remove(dir, { recursive: true });
});

Deno.test("connectUnix() gives undefined for a socket whose owner died", async () => {
  const dir = await Deno.makeTempDir();
  const path = join(dir, "socket");
  const listener = Deno.listen({ transport: "unix", path });
  await Deno.rename(path, `${path}.kept`);
  listener.close();
  assertEquals(await connectUnix(`${path}.kept`), undefined);
  await Deno.remove(dir, { recursive: true });
});

Deno.test("listenPrivate() makes a socket that only its owner can open", async () => {
  const dir = await Deno.makeTempDir();
  const path = join(dir, "socket");
  const listener = listenPrivate(path);
  assertEquals((await Deno.stat(path)).mode! & 0o777, 0o600);
  listener.close();
  await Deno.remove(dir, { recursive: true });
});
