/**
 * A deterministic ustar archive in memory: same entries, same bytes. In a file of its own because the tar library is
 * slow to import. It must not be given more than fits in memory, nor be taught names longer than ustar's.
 *
 * @module
 */
import { Buffer } from "node:buffer";
// @ts-types="@types/tar-stream"
import { pack } from "tar-stream";

/** One regular file; owner root, time zero. */
export interface TarEntry {
  /** Relative path of at most 100 ASCII characters. */
  readonly name: string;
  /** Its bytes, or its text as UTF-8. */
  readonly data: Uint8Array;
  /** Permission bits. */
  readonly mode: number;
}

/** The archive's bytes with its two closing blocks, a multiple of 512. */
export async function packTar(entries: readonly TarEntry[]): Promise<Uint8Array> {
  const archive = pack();
  for (const { name, data, mode } of entries) {
    archive.entry(
      { name, mode, size: data.length, type: "file", mtime: new Date(0), uid: 0, gid: 0 },
      Buffer.from(data),
    );
  }
  archive.finalize();
  const chunks: Uint8Array[] = [];
  for await (const chunk of archive) chunks.push(chunk as Uint8Array);
  return Buffer.concat(chunks);
}
