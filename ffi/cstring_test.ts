import { assertEquals, assertThrows } from "@std/assert";
import { cString, cStringArray } from "./cstring.ts";
import { KrunError } from "./error.ts";

const read = (buffer: Uint8Array<ArrayBuffer>) =>
  new Deno.UnsafePointerView(Deno.UnsafePointer.of(buffer)!).getCString();

Deno.test("cString() ends with one NUL, also when it is empty", () => {
  assertEquals(cString(""), Uint8Array.of(0));
  assertEquals(cString("ab"), Uint8Array.of(97, 98, 0));
});

Deno.test("cString() refuses a NUL inside and a lone surrogate", () => {
  assertThrows(() => cString("a\0b", "krun_set_root"), KrunError, "NUL byte inside");
  assertThrows(() => cString("\ud800"), KrunError, "not valid Unicode");
});

Deno.test("cString() is read back by C unchanged: non-ASCII and 64 KiB", () => {
  for (const text of ["grüße/日本/🙂", "x".repeat(64 * 1024)]) {
    assertEquals(read(cString(text)), text);
  }
});

Deno.test("cStringArray() is a list of addresses that ends with null", () => {
  const { pointers, strings } = cStringArray(["a", "", "ü"], "krun_set_env");
  assertEquals([pointers.length, pointers[3], strings.length], [4, 0n, 3]);
  const words = [...pointers.subarray(0, 3)].map((address) =>
    new Deno.UnsafePointerView(Deno.UnsafePointer.create(address)!).getCString()
  );
  assertEquals(words, ["a", "", "ü"]);
  assertEquals(cStringArray([], "krun_set_env").pointers, BigUint64Array.of(0n));
});

Deno.test("cStringArray() refuses more strings than libkrun reads", () => {
  const many = Array.from({ length: 4096 }, () => "x");
  assertThrows(() => cStringArray(many, "krun_set_env"), KrunError, "more than the 4095");
});
