import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { cutLog, keepLogsSmall, LogReader, readTail } from "./log_file.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (data: Uint8Array) => new TextDecoder().decode(data);

async function withLog(test: (path: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    await test(join(dir, "console.log"));
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

const small = { maxBytes: 100_000, keptBytes: 1000 };

Deno.test("cutLog() keeps the last lines of a flooded log, and its writer continues behind them", () =>
  withLog(async (path) => {
    using writer = await Deno.open(path, { create: true, append: true });
    await writer.write(bytes("flood\n".repeat(100_000) + "the end\n"));
    await cutLog(path, small);
    await writer.write(bytes("and on\n"));
    const left = await Deno.readTextFile(path);
    assert(left.length < 1100, `${left.length} bytes are left`);
    assert(left.startsWith("(599010 bytes before this line were cut)\nflood\n"), left.slice(0, 80));
    assert(left.endsWith("\nflood\nthe end\nand on\n"), left.slice(-80));
  }));

Deno.test("cutLog() leaves a log alone that is small, one with a hole, and one that is not there", () =>
  withLog(async (path) => {
    await cutLog(path);
    await Deno.writeTextFile(path, "a\nb\n");
    await cutLog(path, { maxBytes: 4, keptBytes: 1 });
    assertEquals(await Deno.readTextFile(path), "a\nb\n");
    await Deno.truncate(path, 1024 ** 3);
    await cutLog(path, small);
    assertEquals((await Deno.stat(path)).size, 1024 ** 3);
  }));

Deno.test("cutLog() bounds the space of a log whose writer does not append", () =>
  withLog(async (path) => {
    using writer = await Deno.open(path, { create: true, write: true });
    for (let at = 0; at < 5; at++) {
      await writer.write(bytes("flood\n".repeat(100_000)));
      await cutLog(path, small);
    }
    await writer.write(bytes("the end\n"));
    const { blocks } = await Deno.stat(path);
    assert(blocks! * 512 < 100_000, `${blocks} blocks`);
    assertEquals(await readTail(path, 8), "the end\n");
  }));

Deno.test("keepLogsSmall() cuts what grows, at the latest when it is disposed", () =>
  withLog(async (path) => {
    {
      await using _keeper = keepLogsSmall([path]);
      await Deno.writeFile(path, new Uint8Array(9 * 1024 * 1024).fill(0x41));
    }
    const left = await readTail(path);
    assert((await Deno.stat(path)).size < 1.1 * 1024 * 1024);
    assertStringIncludes(left, "A");
  }));

Deno.test("readTail() reads the end of a log that is larger than any string", () =>
  withLog(async (path) => {
    {
      using file = await Deno.open(path, { create: true, write: true });
      await file.truncate(4 * 1024 ** 3);
      await file.seek(0, Deno.SeekMode.End);
      await file.write(bytes("the end"));
    }
    assertEquals(await readTail(path, 7), "the end");
    assertEquals((await readTail(path)).length, 1024 * 1024);
    assertEquals((await new LogReader(path).read()).length, 8 * 1024 * 1024);
  }));

Deno.test("LogReader returns what is added, once, also when the log is cut between two reads", () =>
  withLog(async (path) => {
    const reader = new LogReader(path);
    assertEquals(text(await reader.read()), "");
    const add = (words: string) => Deno.writeTextFile(path, words, { append: true, create: true });
    await add("line\n".repeat(50_000));
    assertEquals((await reader.read()).length, 250_000);
    await add("not read yet\n");
    await cutLog(path, small);
    assertEquals(text(await reader.read()), "not read yet\n");
    await add("later\n");
    assertEquals(text(await reader.read()), "later\n");
  }));

Deno.test("LogReader reports how much was cut that it has not read", () =>
  withLog(async (path) => {
    const reader = new LogReader(path);
    await Deno.writeTextFile(path, "line\n".repeat(2000));
    await reader.read();
    await Deno.writeTextFile(path, "more\n".repeat(50_000), { append: true });
    await cutLog(path, small);
    const next = text(await reader.read());
    assert(next.startsWith("(259005 bytes before this line were cut)\nmore\n"), next.slice(0, 80));
  }));

Deno.test("LogReader reads a log from its start that a later start has begun anew", () =>
  withLog(async (path) => {
    const reader = new LogReader(path);
    await Deno.writeTextFile(path, "one\ntwo\n");
    await reader.read();
    await Deno.writeTextFile(path, "");
    assertEquals(text(await reader.read()), "");
    await Deno.writeTextFile(path, "3\n");
    assertEquals(text(await reader.read()), "3\n");
  }));
