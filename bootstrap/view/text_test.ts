import { assertEquals } from "@std/assert";
import { fit, fitEnd, fitStart, formatElapsed, paint } from "./text.ts";

Deno.test("fit() and its kin give the columns they are asked for", () => {
  assertEquals([fit("abcdef", 4), fit("abcd", 4), fit("abc", 0)], ["abc…", "abcd", ""]);
  assertEquals([fitEnd("ab", 4), fitStart("ab", 4), fitEnd("ünïcode", 4)], [
    "ab  ",
    "  ab",
    "ünï…",
  ]);
});

Deno.test("formatElapsed() keeps its resolution while it grows", () => {
  assertEquals([-5, 0, 999, 59_999, 60_000, 187_000, 3_723_000].map(formatElapsed), [
    "0.0 s",
    "0.0 s",
    "0.9 s",
    "59.9 s",
    "1:00",
    "3:07",
    "1:02:03",
  ]);
});

Deno.test("paint() adds codes only when colour is wanted", () => {
  assertEquals(paint("x", "red", true), "\x1b[31mx\x1b[0m");
  assertEquals([paint("x", "red", false), paint("", "red", true)], ["x", ""]);
});
