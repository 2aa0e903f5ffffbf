import { assertEquals, assertRejects } from "@std/assert";
import { GatewayError } from "../base/error.ts";
import { checkLayer } from "./ram_layer.ts";

const PAGE = 4096;

/** A layer of the given runs of pages, as vm/qemu/ramshim writes one. */
function layer(memoryBytes: number, extents: readonly (readonly [number, number])[]): Uint8Array {
  const pages = extents.reduce((sum, [, count]) => sum + count, 0);
  const bytes = new Uint8Array((1 + pages) * PAGE);
  new TextEncoder().encodeInto("GWRAMLR1", bytes);
  const view = new DataView(bytes.buffer);
  view.setUint32(8, PAGE, true);
  view.setUint32(12, extents.length, true);
  view.setBigUint64(16, BigInt(memoryBytes), true);
  extents.forEach(([first, count], at) => {
    view.setUint32(24 + at * 8, first, true);
    view.setUint32(28 + at * 8, count, true);
  });
  return bytes;
}

async function withLayer(bytes: Uint8Array, fn: (path: string) => Promise<void>): Promise<void> {
  const path = await Deno.makeTempFile();
  try {
    await Deno.writeFile(path, bytes);
    await fn(path);
  } finally {
    await Deno.remove(path);
  }
}

const why = async (path: string) =>
  (await assertRejects(() => checkLayer(path, 1), GatewayError)).why;

Deno.test("checkLayer() takes a whole layer, and one without pages", async () => {
  for (const extents of [[[0, 1], [7, 2]], []] as const) {
    await withLayer(layer(1024 * 1024, extents), (path) => checkLayer(path, 1));
  }
});

Deno.test("checkLayer() refuses what is no layer, is cut, or belongs to another memory", async () => {
  const whole = layer(1024 * 1024, [[0, 1], [7, 2]]);
  await withLayer(new Uint8Array(100), async (path) => {
    assertEquals(await why(path), "it does not begin as a memory layer does");
  });
  await withLayer(whole.subarray(0, 3 * PAGE), async (path) => {
    assertEquals(await why(path), `it has ${3 * PAGE} bytes instead of ${4 * PAGE}`);
  });
  await withLayer(whole.subarray(0, 30), async (path) => {
    assertEquals(await why(path), "its list of pages is cut");
  });
  await withLayer(layer(4096, []), async (path) => {
    assertEquals(await why(path), "it belongs to a memory of 4096 bytes, not 1048576");
  });
});

Deno.test("checkLayer() refuses pages out of order, twice, none, and beyond the memory", async () => {
  for (const extents of [[[7, 1], [0, 1]], [[3, 2], [4, 1]], [[3, 0]]] as const) {
    await withLayer(layer(1024 * 1024, extents), async (path) => {
      assertEquals(await why(path), "its list of pages is not in order");
    });
  }
  await withLayer(layer(1024 * 1024, [[255, 2]]), async (path) => {
    assertEquals(await why(path), "its list of pages leads out of the memory");
  });
});
