/**
 * A file system that is shut down hard, and whether this host can do that.
 *
 * @module
 */
import { which } from "../../vm/base/process.ts";

/** The same request on ext4 and XFS. Nothing that is not on the disk yet gets there: flag 2. */
export function cutPower(dir: string): void {
  const libc = Deno.dlopen("libc.so.6", {
    open: { parameters: ["buffer", "i32"], result: "i32" },
    ioctl: { parameters: ["i32", "u64", "buffer"], result: "i32" },
    close: { parameters: ["i32"], result: "i32" },
  });
  const fd = libc.symbols.open(new TextEncoder().encode(`${dir}\0`), 0);
  const done = libc.symbols.ioctl(fd, 0x8004_587dn, new Uint32Array([2]));
  libc.symbols.close(fd);
  if (fd < 0 || done !== 0) throw new Error(`"${dir}" cannot be shut down`);
}

/** Why this host cannot cut the power of such a file system; undefined when it can. */
export async function whyNoPowerCut(kind: string): Promise<string | undefined> {
  if (Deno.build.os !== "linux" || Deno.uid() !== 0) return "only root of Linux mounts";
  for (const tool of ["unshare", "mount", `mkfs.${kind}`, "qemu-io"]) {
    if (which(tool) === undefined) return `there is no ${tool}`;
  }
  try {
    await Deno.stat("/dev/loop-control");
  } catch {
    return "there are no loop devices";
  }
  return undefined;
}
