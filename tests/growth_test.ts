/**
 * What the soak takes for growth.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { grows, growthOf } from "./kills/growth.ts";

const series = (length: number, value: (at: number) => number) =>
  Array.from({ length }, (_, at) => value(at));

Deno.test("growthOf() gives rise and scatter of the second half alone", () => {
  assertEquals(growthOf(series(10, (at) => at < 5 ? 1000 : 3 * at)), { rise: 12, scatter: 0 });
});

Deno.test("grows() finds a steady leak of one in each cycle", () => {
  assertEquals(grows(series(20, (at) => 50 + at), 1), true);
});

Deno.test("grows() finds a slow leak behind noise", () => {
  assertEquals(grows(series(200, (at) => 50 + at / 20 + (at * 7) % 3), 1), true);
});

Deno.test("grows() does not take noise, or caches that fill at first, for growth", () => {
  assertEquals(grows(series(20, (at) => 50 + (at * 7) % 5), 1), false);
  assertEquals(grows(series(20, (at) => Math.min(at, 5)), 1), false);
});
