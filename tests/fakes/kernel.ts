/**
 * A file that looks like a kernel and is none.
 *
 * @module
 */

/** An ELF file for x86_64 with one segment to load: 64 bytes of header, one program header, `bytes` of zeros. */
export function fakeKernel(bytes = 64): Uint8Array<ArrayBuffer> {
  const file = new Uint8Array(120 + bytes);
  const view = new DataView(file.buffer);
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(18, 62, true);
  view.setBigUint64(32, 64n, true);
  view.setUint16(54, 56, true);
  view.setUint16(56, 1, true);
  view.setUint32(64, 1, true);
  view.setBigUint64(72, 120n, true);
  view.setBigUint64(96, BigInt(bytes), true);
  return file;
}
