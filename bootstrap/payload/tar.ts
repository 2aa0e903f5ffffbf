/**
 * A deterministic ustar archive in memory: same entries, same bytes; and what another archive holds. In a file of its own because the tar library is
 * slow to import. It must not be given more than fits in memory, nor be taught names longer than ustar's.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { gunzipSync } from "node:zlib";
// @ts-types="@types/tar-stream"
import { extract, pack } from "tar-stream";

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

/** The regular files of an archive. Rejects when it is none. */
export async function readTar(bytes: Uint8Array): Promise<Pick<TarEntry, "name" | "data">[]> {
  const archive = extract();
  archive.end(Buffer.from(bytes));
  const found: Pick<TarEntry, "name" | "data">[] = [];
  for await (const entry of archive) {
    const chunks: Uint8Array[] = [];
    for await (const chunk of entry) chunks.push(chunk as Uint8Array);
    if (entry.header.type === "file") {
      found.push({ name: entry.header.name, data: Buffer.concat(chunks) });
    }
  }
  return found;
}

/** What a packed chart unpacks to at the most. */
const MAX_CHART_BYTES = 64 * 1024 * 1024;

/** The regular files of a packed chart (.tgz). Rejects when it is none, or unpacks to more than 64 MiB. */
export async function readChartFiles(
  archive: Uint8Array,
): Promise<Pick<TarEntry, "name" | "data">[]> {
  return await readTar(gunzipSync(archive, { maxOutputLength: MAX_CHART_BYTES }));
}
