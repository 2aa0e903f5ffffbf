/**
 * The kernel inside libkrunfw as a file: an ELF in memory, so that libkrun takes it with a command line of ours. Left alone
 * libkrun boots it with its own init and its own words.
 * It must not write to a disk: the process that uses it may not.
 *
 * @module
 */
import { cString } from "./cstring.ts";
import { KrunError } from "./error.ts";

const FIRMWARE = {
  krunfw_get_kernel: { parameters: ["buffer", "buffer", "buffer"], result: "pointer" },
} as const;

const LIBC = {
  memfd_create: { parameters: ["buffer", "u32"], result: "i32" },
  write: { parameters: ["i32", "pointer", "usize"], result: "isize" },
} as const;

const HEADER_BYTES = 64;
const SEGMENT_BYTES = 56;

/**
 * The header of an ELF file for x86-64 whose one segment, right behind it, is a kernel as it lies in memory. Pure.
 *
 * @param loadAddress Guest-physical.
 * @param entryAddress Guest-physical.
 */
export function kernelElfHeader(
  loadAddress: bigint,
  entryAddress: bigint,
  sizeBytes: bigint,
): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(HEADER_BYTES + SEGMENT_BYTES));
  // Magic, 64 bit, little-endian, version 1.
  view.setUint32(0, 0x7f454c46);
  view.setUint32(4, 0x02010100);
  view.setUint16(16, 2, true); // An executable
  view.setUint16(18, 62, true); // for x86-64.
  view.setUint32(20, 1, true);
  view.setBigUint64(24, entryAddress, true);
  view.setBigUint64(32, BigInt(HEADER_BYTES), true); // Where the segments are told,
  view.setUint16(52, HEADER_BYTES, true);
  view.setUint16(54, SEGMENT_BYTES, true);
  view.setUint16(56, 1, true); // and how many.
  const at = HEADER_BYTES;
  view.setUint32(at, 1, true); // To be loaded,
  view.setUint32(at + 4, 7, true); // read, written and run.
  view.setBigUint64(at + 8, BigInt(view.byteLength), true);
  view.setBigUint64(at + 16, loadAddress, true);
  view.setBigUint64(at + 24, loadAddress, true);
  view.setBigUint64(at + 32, sizeBytes, true);
  view.setBigUint64(at + 40, sizeBytes, true);
  view.setBigUint64(at + 48, 4096n, true);
  return new Uint8Array(view.buffer);
}

/**
 * Copies the kernel of a libkrunfw into a file in memory and returns its path, which is good in this process only. Linux on
 * x86-64 alone has what it takes.
 *
 * @throws KrunError when the library cannot be loaded or has no kernel, or when there is no memory for it.
 */
export function firmwareKernelPath(path: string): string {
  if (Deno.build.os !== "linux" || Deno.build.arch !== "x86_64") {
    throw new KrunError("load", "memfd_create", "libkrunfw's kernel is taken on x86-64 Linux only");
  }
  let firmware: Deno.DynamicLibrary<typeof FIRMWARE>;
  try {
    firmware = Deno.dlopen(path, FIRMWARE);
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    throw new KrunError("load", "dlopen", `"${path}" is no libkrunfw: ${text}`);
  }
  // Neither library is closed: this process becomes the VM.
  const [load, entry, size] = [
    new BigUint64Array(1),
    new BigUint64Array(1),
    new BigUint64Array(1),
  ];
  const bytes = (word: BigUint64Array<ArrayBuffer>) => new Uint8Array(word.buffer);
  const kernel = firmware.symbols.krunfw_get_kernel(bytes(load), bytes(entry), bytes(size));
  const sizeBytes = size[0]!;
  if (kernel === null || sizeBytes === 0n) {
    throw new KrunError("load", "krunfw_get_kernel", `"${path}" has no kernel inside`);
  }
  const libc = Deno.dlopen("libc.so.6", LIBC).symbols;
  const fd = libc.memfd_create(cString("kernel"), 0);
  const header = kernelElfHeader(load[0]!, entry[0]!, sizeBytes);
  writeAll(libc.write, fd, Deno.UnsafePointer.of(header), BigInt(header.length));
  writeAll(libc.write, fd, kernel, sizeBytes);
  return `/proc/self/fd/${fd}`;
}

function writeAll(
  write: (fd: number, from: Deno.PointerValue, bytes: bigint) => bigint,
  fd: number,
  from: Deno.PointerValue,
  bytes: bigint,
): void {
  const start = Deno.UnsafePointer.value(from);
  for (let done = 0n; done < bytes;) {
    const wrote = write(fd, Deno.UnsafePointer.create(start + done), bytes - done);
    if (wrote <= 0n) {
      throw new KrunError("call", "write", "there is no memory for a copy of libkrunfw's kernel");
    }
    done += wrote;
  }
}
