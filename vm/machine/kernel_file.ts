/**
 * Looks at a kernel file before it is booted: what is wrong with it is then told in words, where a VMM has a number.
 * It must not check what the kernel can do.
 *
 * @module
 */
import { GatewayError } from "../base/error.ts";
import type { VmSpec } from "./spec.ts";

const ELF_MAGIC = 0x7f454c46;
const EM_X86_64 = 62;
/** "ARM" and 0x64, little-endian, at byte 56 of an arm64 Image. */
const ARM64_MAGIC = 0x644d5241;
const PT_LOAD = 1;

/** @throws GatewayError `vmm-failed` that names the file, when it is no kernel of its format or was cut. */
export function checkKernelFile(kernel: VmSpec["kernel"]): void {
  const why = defectOf(kernel);
  if (why === undefined) return;
  throw new GatewayError({
    code: "vmm-failed",
    what: `Cannot boot the kernel "${kernel.path}"`,
    why,
    fix: "run `gateway build kernel` to make it again",
  });
}

function defectOf({ path, format }: VmSpec["kernel"]): string | undefined {
  let head: DataView;
  let size: number;
  try {
    using file = Deno.openSync(path);
    size = file.statSync().size;
    const bytes = new Uint8Array(4096);
    const read = file.readSync(bytes) ?? 0;
    head = new DataView(bytes.buffer, 0, read);
  } catch (error) {
    return error instanceof Deno.errors.NotFound ? "it is not there" : String(error);
  }
  if (format === "image-arm64") {
    return imageDefect(head, size);
  }
  return format === "elf" ? elfDefect(head, size) : undefined;
}

/**
 * The header tells what the kernel takes in memory, which is the file and what starts as zeros; of ours 3 %. So a file that
 * lost its end is only seen when much is gone; the store compares whole digests.
 */
function imageDefect(head: DataView, size: number): string | undefined {
  const magic = head.byteLength >= 64 ? head.getUint32(56, true) : 0;
  if (magic !== ARM64_MAGIC) return "it is not an arm64 Image";
  const inMemory = Number(head.getBigUint64(16, true));
  return size < inMemory / 2
    ? `it is cut: it takes ${inMemory} bytes of memory and has ${size}`
    : undefined;
}

function elfDefect(head: DataView, size: number): string | undefined {
  const is64 = head.byteLength >= 64 && head.getUint32(0) === ELF_MAGIC && head.getUint8(4) === 2;
  if (!is64) return "it is not a 64-bit ELF file";
  if (head.getUint16(18, true) !== EM_X86_64) return "it is an ELF file for another processor";
  const table = Number(head.getBigUint64(32, true));
  const [entrySize, entries] = [head.getUint16(54, true), head.getUint16(56, true)];
  let end = 0;
  for (let at = table; at < table + entries * entrySize; at += entrySize) {
    if (at + 56 > head.byteLength) return "its program headers are not where a kernel has them";
    if (head.getUint32(at, true) !== PT_LOAD) continue;
    const [offset, length] = [head.getBigUint64(at + 8, true), head.getBigUint64(at + 32, true)];
    end = Math.max(end, Number(offset + length));
  }
  if (end === 0) return "it has nothing to load";
  return end > size ? `it is cut: ${end} bytes are to be loaded and it has ${size}` : undefined;
}
