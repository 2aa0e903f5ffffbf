/**
 * Our kernel as a drop-in libkrunfw.so.5: the memory image of its vmlinux in a library with libkrunfw's two functions.
 * It must not be needed by our own driver, which hands libkrun the vmlinux itself.
 *
 * @module
 */
import { join } from "@std/path";
import { GatewayError } from "../vm/base/error.ts";
import { run } from "../vm/base/process.ts";
import { sourcePath } from "../vm/base/source.ts";
import { type BuildContext, digestFile, type Recipe, recipeKey } from "../vm/store/artifact.ts";

/** The guest is given whole pages; 64 KiB is the largest page there is. */
const PAGE_BYTES = 65536;

/** A kernel as it lies in memory. */
export interface KernelMemory {
  /** Guest-physical address of the first byte. */
  readonly loadAddress: bigint;
  /** Guest-physical address of the first instruction. */
  readonly entryAddress: bigint;
  /** Whole pages. */
  readonly bytes: Uint8Array<ArrayBuffer>;
}

const PT_LOAD = 1;

/**
 * Lays the segments of a 64-bit little-endian ELF out by their physical addresses. What has no bytes in the file (bss at
 * the end) is left to the guest's own memory, which is zero.
 *
 * @throws GatewayError `build-failed` when it is no such file.
 */
export function kernelMemory(elf: Uint8Array): KernelMemory {
  const view = new DataView(elf.buffer, elf.byteOffset, elf.byteLength);
  if (elf.length < 64 || view.getUint32(0) !== 0x7f454c46 || elf[4] !== 2 || elf[5] !== 1) {
    throw notLoadable("it is no 64-bit little-endian ELF");
  }
  const headers = Number(view.getBigUint64(32, true));
  const [size, count] = [view.getUint16(54, true), view.getUint16(56, true)];
  const segments = Array.from({ length: count }, (_, at) => headers + at * size)
    .filter((at) => view.getUint32(at, true) === PT_LOAD)
    .map((at) => ({
      offset: Number(view.getBigUint64(at + 8, true)),
      address: view.getBigUint64(at + 24, true),
      bytes: Number(view.getBigUint64(at + 32, true)),
    }))
    .filter(({ bytes }) => bytes > 0)
    .sort((a, b) => (a.address < b.address ? -1 : 1));
  const [first, last] = [segments.at(0), segments.at(-1)];
  if (!first || !last) throw notLoadable("it has no segment to load");
  const loadAddress = first.address;
  const length = Number(last.address - loadAddress) + last.bytes;
  const memory = new Uint8Array(Math.ceil(length / PAGE_BYTES) * PAGE_BYTES);
  for (const { offset, address, bytes } of segments) {
    memory.set(elf.subarray(offset, offset + bytes), Number(address - loadAddress));
  }
  const entryAddress = view.getBigUint64(24, true);
  if (entryAddress < loadAddress || entryAddress >= loadAddress + BigInt(length)) {
    throw notLoadable("its entry is outside of its segments");
  }
  return { loadAddress, entryAddress, bytes: memory };
}

function notLoadable(why: string): GatewayError {
  return new GatewayError({
    code: "build-failed",
    what: "Cannot pack the kernel as a library",
    why,
    fix: "run `gateway build kernel` again",
  });
}

const SOURCE = sourcePath("kernel/krunfw.c");

/** Nothing of the place or the time of the build may reach the bytes. */
const FLAGS = [
  ...["-shared", "-fPIC", "-O2", "-nostdlib", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror"],
  ...["-Wl,-soname,libkrunfw.so.5", "-Wl,--build-id=none", "-Wl,-z,noexecstack", "-s"],
];

/** The recipe of the library; x86_64 only. */
export async function krunfwRecipe(kernel: Recipe): Promise<Recipe> {
  return {
    name: "libkrunfw",
    label: "kernel as libkrunfw.so.5",
    inputs: {
      kernel: recipeKey(kernel),
      source: await digestFile(SOURCE),
      flags: FLAGS.join(" "),
      page: String(PAGE_BYTES),
    },
    outputs: ["libkrunfw.so.5"],
    tools: [{ program: "gcc", debian: "gcc" }, {
      program: "libc headers",
      debian: "libc6-dev",
      path: "/usr/include/stdint.h",
    }],
    build: (ctx) => buildKrunfw(kernel, ctx),
  };
}

async function buildKrunfw(
  kernel: Recipe,
  ctx: BuildContext,
): Promise<Record<string, string>> {
  const { span, signal, store } = ctx;
  const { files } = await store.ensure(kernel, { span, signal, assumeYes: false });
  const memory = kernelMemory(await Deno.readFile(files.vmlinux!.path));
  await Deno.writeFile(join(ctx.workDir, "kernel.bin"), memory.bytes);
  const loadAddress = `0x${memory.loadAddress.toString(16)}`;
  const entryAddress = `0x${memory.entryAddress.toString(16)}`;
  await run("gcc", {
    args: [
      ...FLAGS,
      '-DKERNEL_FILE="kernel.bin"',
      `-DLOAD_ADDRESS=${loadAddress}`,
      `-DENTRY_ADDRESS=${entryAddress}`,
      ...["-o", join(ctx.outDir, "libkrunfw.so.5"), SOURCE],
    ],
    cwd: ctx.workDir,
    logPath: ctx.logPath,
    signal,
    timeoutMs: 120_000,
    code: "build-failed",
    what: "Cannot pack the kernel as a library",
  });
  return { loadAddress, entryAddress, kernelSha256: files.vmlinux!.sha256 };
}
