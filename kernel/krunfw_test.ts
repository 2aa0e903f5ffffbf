import { assertEquals, assertThrows } from "@std/assert";
import { GatewayError } from "../vm/base/error.ts";
import { kernelMemory } from "./krunfw.ts";

interface Segment {
  readonly type?: number;
  readonly address: bigint;
  readonly text: string;
  readonly memory?: number;
}

/** A small ELF with these segments. */
function elf(entry: bigint, segments: readonly Segment[]): Uint8Array {
  const start = 64 + 56 * segments.length;
  const texts = segments.map(({ text }) => new TextEncoder().encode(text));
  const bytes = new Uint8Array(start + texts.reduce((sum, text) => sum + text.length, 0));
  const view = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setBigUint64(24, entry, true);
  view.setBigUint64(32, 64n, true);
  view.setUint16(54, 56, true);
  view.setUint16(56, segments.length, true);
  let offset = start;
  segments.forEach(({ type = 1, address, memory }, at) => {
    const header = 64 + 56 * at;
    view.setUint32(header, type, true);
    view.setBigUint64(header + 8, BigInt(offset), true);
    view.setBigUint64(header + 24, address, true);
    view.setBigUint64(header + 32, BigInt(texts[at]!.length), true);
    view.setBigUint64(header + 40, BigInt(memory ?? texts[at]!.length), true);
    bytes.set(texts[at]!, offset);
    offset += texts[at]!.length;
  });
  return bytes;
}

Deno.test("kernelMemory() lays segments out by physical address, in whole pages", () => {
  const memory = kernelMemory(elf(0x1000010n, [
    { address: 0x1000020n, text: "data", memory: 0x90000 },
    { address: 0x1000000n, text: "code" },
    { type: 4, address: 0x1n, text: "a note is not loaded" },
  ]));
  assertEquals([memory.loadAddress, memory.entryAddress], [0x1000000n, 0x1000010n]);
  assertEquals(memory.bytes.length, 65536);
  const at = (from: number) => new TextDecoder().decode(memory.bytes.subarray(from, from + 4));
  assertEquals([at(0), at(0x20), at(0x10)], ["code", "data", "\0\0\0\0"]);
});

for (
  const [what, bytes] of [
    ["is no ELF", new TextEncoder().encode("#!/bin/sh\n".repeat(20))],
    ["has nothing to load", elf(1n, [{ type: 4, address: 1n, text: "note" }])],
    ["has its entry elsewhere", elf(5n, [{ address: 16n, text: "code" }])],
    ["is cut", new Uint8Array(3)],
  ] as const
) {
  Deno.test(`kernelMemory() refuses a file that ${what}`, () => {
    assertThrows(() => kernelMemory(bytes), GatewayError, "Cannot pack the kernel");
  });
}
