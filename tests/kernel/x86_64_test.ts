/**
 * What the x86_64 kernel promises: it fits, and as libkrunfw.so.5 it is what libkrun expects. That the same source gives
 * the same bytes is in tests/long.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { buildTargets } from "../../bootstrap/artifacts/ensure.ts";
import { PACKED_SIZE_MAX_BYTES } from "../../kernel/kernel.ts";
import { kernelMemory } from "../../kernel/krunfw.ts";
import { digestBytes } from "../../vm/base/digest.ts";
import { silentSpan } from "../../vm/base/event.ts";
import { run } from "../../vm/base/process.ts";

const options = () => ({
  span: silentSpan(),
  signal: new AbortController().signal,
  assumeYes: true,
});

Deno.test("bzImage fits", async () => {
  const [kernel] = await buildTargets("kernel", options());
  assert(kernel!.files.bzImage!.sizeBytes <= PACKED_SIZE_MAX_BYTES);
});

Deno.test("libkrunfw.so.5 has libkrunfw's two functions, and they give our kernel's memory", async () => {
  const [kernel, krunfw] = await buildTargets("libkrunfw", options());
  const path = krunfw!.files["libkrunfw.so.5"]!.path;
  const { stdout } = await run("readelf", { args: ["--dyn-syms", "--dynamic", "--wide", path] });
  assert(stdout.includes("soname: [libkrunfw.so.5]"), stdout);
  const exported = [...stdout.matchAll(/ GLOBAL DEFAULT +\d+ (\w+)/g)].map((match) => match[1]);
  assertEquals(exported.sort(), ["krunfw_get_kernel", "krunfw_get_version"]);
  const library = Deno.dlopen(path, {
    krunfw_get_version: { parameters: [], result: "u32" },
    krunfw_get_kernel: { parameters: ["buffer", "buffer", "buffer"], result: "pointer" },
  });
  assertEquals(library.symbols.krunfw_get_version(), 5);
  const [load, entry, size] = [
    new BigUint64Array(1),
    new BigUint64Array(1),
    new BigUint64Array(1),
  ];
  const pointer = library.symbols.krunfw_get_kernel(load, entry, size);
  const wanted = kernelMemory(await Deno.readFile(kernel!.files.vmlinux!.path));
  assertEquals([load[0], entry[0], size[0]], [
    wanted.loadAddress,
    wanted.entryAddress,
    BigInt(wanted.bytes.length),
  ]);
  assertEquals(Deno.UnsafePointer.value(pointer) % 4096n, 0n, "it does not begin with a page");
  const bytes = new Uint8Array(Deno.UnsafePointerView.getArrayBuffer(pointer!, Number(size[0])));
  assertEquals(digestBytes(bytes), digestBytes(wanted.bytes));
  // The guest writes to its memory; libkrun maps the library's pages for that.
  bytes[bytes.length - 1] = 7;
  assertEquals(bytes.at(-1), 7);
  library.close();
});
