/**
 * A kernel that QEMU's microvm boots and that only halts: a guest that takes no processor time, for tests of the VMM.
 *
 * @module
 */
import { join } from "@std/path";
import { run } from "../../vm/base/process.ts";

// The note names the entry of a kernel that is started in 32-bit mode (PVH).
const SOURCE = `
.code32
.globl _start
.text
_start: cli
1: hlt
   jmp 1b
.section .note.pvh, "a", @note
.long 4, 4, 18
.asciz "Xen"
.long _start
`;

/** Builds it; gives its path. */
export async function haltingKernel(dir: string): Promise<string> {
  const source = join(dir, "halt.S");
  const path = join(dir, "halt.elf");
  await Deno.writeTextFile(source, SOURCE);
  const link = ["-nostdlib", "-static", "-no-pie", "-Wl,-Ttext=0x1000000,--build-id=none"];
  await run("cc", { args: [...link, "-o", path, source] });
  return path;
}
