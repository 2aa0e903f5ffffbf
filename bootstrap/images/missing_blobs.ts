/**
 * An image archive without the blobs that a guest has, so that they are not sent again. In a file of its own because the
 * tar library is slow to import.
 *
 * @module
 */
import { once } from "node:events";
import { pipeline } from "node:stream/promises";
// @ts-types="@types/tar-stream"
import { extract, type Headers, pack } from "tar-stream";
import { describeError, usageError } from "../../vm/base/error.ts";

/** Where OCI archives keep their blobs; in docker's older form a name is not a digest, and everything is sent. */
const BLOB = /^(?:\.\/)?blobs\/sha256\/([0-9a-f]{64})$/;

/** How many bytes of an archive were looked at, and what of it was left out. */
export interface FilterReport {
  /** Bytes of the archive that were read. */
  readBytes: number;
  /** Digests of the blobs that were left out. */
  readonly omitted: Set<string>;
}

/**
 * The archive without the blobs in `has` (`sha256:…`), read as it is consumed; nothing of it is kept in memory.
 *
 * @throws The stream fails with GatewayError `usage` where the archive is not a whole tar file.
 */
export function withoutBlobs(
  archive: ReadableStream<Uint8Array>,
  has: ReadonlySet<string>,
): { readonly stream: ReadableStream<Uint8Array>; readonly report: FilterReport } {
  const report: FilterReport = { readBytes: 0, omitted: new Set() };
  const source = extract();
  const rest = pack();
  let fault: unknown;
  const filtered = filter(source, rest, has, report).catch((error) => {
    fault = error;
    rest.destroy();
    source.destroy();
  });
  const fed = feed(archive, source, report).catch((error) => source.destroy(error));
  async function* bytes(): AsyncGenerator<Uint8Array> {
    try {
      for await (const piece of rest) yield piece as Uint8Array;
      if (fault !== undefined) throw fault;
    } catch (error) {
      throw notWhole(fault ?? error);
    } finally {
      // A consumer that stops early ends both ends.
      source.destroy();
      rest.destroy();
      await Promise.all([filtered, fed]);
    }
  }
  return { stream: ReadableStream.from(bytes()), report };
}

type Extract = ReturnType<typeof extract>;
type Pack = ReturnType<typeof pack>;

async function feed(
  archive: ReadableStream<Uint8Array>,
  source: Extract,
  report: FilterReport,
): Promise<void> {
  // One wait for all pieces: each would leave its listeners behind.
  const closed = once(source, "close").catch(() => {});
  for await (const piece of archive) {
    if (source.destroyed) return;
    report.readBytes += piece.length;
    if (!source.write(piece)) await Promise.race([once(source, "drain"), closed]);
  }
  source.end();
}

async function filter(
  source: Extract,
  rest: Pack,
  has: ReadonlySet<string>,
  report: FilterReport,
): Promise<void> {
  for await (const entry of source) {
    const { header } = entry;
    const digest = blobOf(header);
    const { name, size, type, linkname } = header;
    const plain = { name, size, type, linkname };
    if (digest !== undefined && has.has(digest)) {
      report.omitted.add(digest);
      entry.resume();
    } else if (header.type === "file") {
      await pipeline(entry, rest.entry(plain));
    } else {
      rest.entry(plain);
      entry.resume();
    }
  }
  rest.finalize();
}

function blobOf({ name, type }: Headers): string | undefined {
  const hex = type === "file" ? BLOB.exec(name)?.[1] : undefined;
  return hex && `sha256:${hex}`;
}

function notWhole(error: unknown): unknown {
  return error instanceof Error && /tar|unexpected end/i.test(error.message)
    ? usageError(
      "Cannot load the image archive",
      `it is not a whole tar archive: ${describeError(error)}`,
      "name a tar that `docker save` or an OCI tool wrote",
    )
    : error;
}
