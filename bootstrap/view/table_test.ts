import { assertEquals } from "@std/assert";
import { columns, LINE_WIDTH, table, wrap } from "./table.ts";

Deno.test("columns() makes each column as wide as its widest cell, and leaves no space at the end", () => {
  assertEquals(columns([["NAME", "STATE", ""], ["a-long-one", "up", "x"], ["b", "-", ""]]), [
    "NAME        STATE",
    "a-long-one  up     x",
    "b           -",
  ]);
  assertEquals(columns([]), []);
});

Deno.test("table() breaks values at the width of a terminal, below their own column", () => {
  const words = "word ".repeat(20).trim();
  const lines = table([["one", "1"], ["longer", words]]).split("\n");
  assertEquals(lines.slice(0, 1), ["one     1"]);
  assertEquals(lines.every((line) => line.length <= LINE_WIDTH), true);
  assertEquals(lines.slice(1).map((line) => line.slice(0, 8)), ["longer  ", "        "]);
});

Deno.test("wrap() keeps a word that is longer than the width whole", () => {
  assertEquals(wrap("a /path/that/is/long b", 8), ["a", "/path/that/is/long", "b"]);
});
