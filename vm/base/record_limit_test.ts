import { assertEquals } from "@std/assert";
import { silentSpan } from "./event.ts";
import { limitRecords } from "./record_limit.ts";

const NOTICE = "too many words in this run: the rest is not recorded";

const told = (span: ReturnType<typeof silentSpan>) =>
  span.events.filter(({ kind }) => kind !== "start")
    .map(({ kind, name, message }) => [kind, message ?? name]);

Deno.test("limitRecords() passes so many records of every kind, then warns once", () => {
  const span = silentSpan();
  const limited = limitRecords(span, { what: "words", records: 3, characters: 1000 });
  limited.log("one");
  limited.warn("two");
  limited.mark("three", 1.5, { a: 1 });
  for (let at = 0; at < 10; at++) {
    limited.log("more");
    limited.warn("more");
    limited.mark("more", 2);
  }
  assertEquals(told(span), [["log", "one"], ["warn", "two"], ["mark", "three"], ["warn", NOTICE]]);
});

Deno.test("limitRecords() counts the characters of texts and attributes", () => {
  const span = silentSpan();
  const limited = limitRecords(span, { what: "words", records: 100, characters: 50 });
  limited.log("x".repeat(20));
  limited.mark("m", 1, { key: "y".repeat(30) });
  limited.log("z");
  assertEquals(told(span), [["log", "x".repeat(20)], ["warn", NOTICE]]);
});
