/**
 * An initramfs with nothing but busybox and a script as PID 1, for kernels that are to be booted without our image.
 * It must not need root or cpio: the archive is written here, in the kernel's "newc" form.
 *
 * @module
 */

/** One entry of an archive; a link's data is its target. */
export interface Entry {
  readonly name: string;
  /** Type and permissions. */
  readonly mode: number;
  readonly data?: Uint8Array;
  /** Of a device. */
  readonly numbers?: readonly [number, number];
}

/** Modes of entries. */
export const FOLDER = 0o040755;
/** As FOLDER. */
export const PROGRAM = 0o100755;
/** As FOLDER. */
export const LINK = 0o120777;
const CONSOLE = 0o020600;

/** The archive: busybox, and a PID 1 that runs these commands of ash with /proc mounted. */
export function initramfs(busybox: Uint8Array, commands: string): Uint8Array {
  const init = `#!/bin/busybox ash\n/bin/busybox mount -t proc proc /proc\n${commands}\n`;
  return archive([
    { name: "bin", mode: FOLDER },
    { name: "dev", mode: FOLDER },
    { name: "proc", mode: FOLDER },
    { name: "dev/console", mode: CONSOLE, numbers: [5, 1] },
    { name: "bin/busybox", mode: PROGRAM, data: busybox },
    { name: "init", mode: PROGRAM, data: new TextEncoder().encode(init) },
  ]);
}

/** An archive of these entries; folders come before what is in them. */
export function archive(content: readonly Entry[]): Uint8Array {
  const entries = [...content, { name: "TRAILER!!!", mode: 0 } as Entry];
  const pieces: Uint8Array[] = [];
  let length = 0;
  const add = (bytes: Uint8Array) => {
    const padding = new Uint8Array((4 - (length + bytes.length) % 4) % 4);
    pieces.push(bytes, padding);
    length += bytes.length + padding.length;
  };
  entries.forEach(({ name, mode, data = new Uint8Array(), numbers = [0, 0] }, at) => {
    // ino, mode, uid, gid, nlink, mtime, size, device, its own device, name's length with the NUL, checksum
    const fields = [at + 1, mode, 0, 0, 1, 0, data.length, 0, 0, ...numbers, name.length + 1, 0];
    const header = fields.map((field) => field.toString(16).padStart(8, "0")).join("");
    add(new TextEncoder().encode(`070701${header}${name}\0`));
    add(data);
  });
  const whole = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}
