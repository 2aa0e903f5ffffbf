import { assertEquals } from "@std/assert";
import { kernelElfHeader } from "./firmware.ts";

Deno.test("kernelElfHeader() describes one segment behind the header, at its physical address", () => {
  const view = new DataView(kernelElfHeader(0x1000000n, 0x1000123n, 8192n).buffer);
  assertEquals(view.byteLength, 120);
  assertEquals([view.getUint32(0), view.getUint8(4), view.getUint8(5)], [0x7f454c46, 2, 1]);
  assertEquals([view.getUint16(16, true), view.getUint16(18, true)], [2, 62]);
  assertEquals(view.getBigUint64(24, true), 0x1000123n);
  assertEquals([view.getUint16(54, true), view.getUint16(56, true)], [56, 1]);
  const at = Number(view.getBigUint64(32, true));
  assertEquals(view.getUint32(at, true), 1);
  const words = [8, 24, 32, 40].map((offset) => view.getBigUint64(at + offset, true));
  assertEquals(words, [120n, 0x1000000n, 8192n, 8192n]);
});
