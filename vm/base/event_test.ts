import { assertEquals, assertRejects } from "@std/assert";
import { EventLog, type EventRecord, fileSink, parseEventLine, silentSpan } from "./event.ts";

Deno.test("Span.run() ends the child with the error when the work throws", async () => {
  const span = silentSpan();
  await assertRejects(() => span.run("step", () => Promise.reject(new Error("broke"))));
  const end = span.events.find((event) => event.kind === "end");
  assertEquals([end?.name, end?.error], ["step", "broke"]);
});

Deno.test("Span.end() counts once", () => {
  const span = silentSpan();
  span.end();
  span.end(new Error("late"));
  assertEquals(span.events.filter((event) => event.kind === "end").length, 1);
});

Deno.test("EventLog stamps records with its clock and the parent's id", () => {
  const log = new EventLog(() => 42);
  const records: EventRecord[] = [];
  log.addSink((record) => void records.push(record));
  const root = log.span("root");
  root.child("leaf").mark("init", 1.5);
  assertEquals(records.map((r) => [r.t, r.kind, r.name, r.parent]), [
    [42, "start", "root", null],
    [42, "start", "leaf", 1],
    [42, "mark", "init", 1],
  ]);
  assertEquals(records[2]?.attrs, { uptime: 1.5 });
});

Deno.test("fileSink() writes lines that parseEventLine() reads, in a private file", async () => {
  const path = await Deno.makeTempFile();
  await Deno.remove(path);
  {
    using sink = fileSink(path);
    const log = new EventLog();
    log.addSink(sink);
    log.span("x").log("hello", { n: 1 });
  }
  const lines = (await Deno.readTextFile(path)).trim().split("\n").map(parseEventLine);
  assertEquals(lines.map((line) => line?.kind), ["start", "log"]);
  assertEquals((await Deno.stat(path)).mode! & 0o777, 0o600);
  await Deno.remove(path);
});

Deno.test("parseEventLine() is undefined for a line that a crash cut", () => {
  assertEquals(parseEventLine('{"t":1,"kind":"st'), undefined);
});
