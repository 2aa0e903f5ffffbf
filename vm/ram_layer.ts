/**
 * Memory layers from the host's side: whether a file is a whole layer, and asking the VMM's memory library
 * (vm/ramshim) to write one.
 * It must not stop or start a guest.
 *
 * @module
 */
import { asDiskFull, GatewayError } from "./error.ts";
import { connectUnix, readLines, writeAll } from "./lines.ts";
import { settleWithin } from "./wait.ts";

const MAGIC = "GWRAMLR1";
const PAGE_BYTES = 4096;
const HEADER_BYTES = 24;
const EXTENT_BYTES = 8;

/**
 * Looks at a layer's header and size before a VMM maps it.
 *
 * @throws GatewayError `artifact-corrupt` when it is no layer, is cut, or belongs to a memory of another size.
 */
export async function checkLayer(path: string, memoryMiB: number): Promise<void> {
  const why = await findLayerFault(path, memoryMiB * 1024 * 1024);
  if (why === undefined) return;
  throw new GatewayError({
    code: "artifact-corrupt",
    what: `Cannot use the memory layer "${path}"`,
    why,
    fix: "start the instance from its disk: gateway up --cold",
  });
}

async function findLayerFault(path: string, memoryBytes: number): Promise<string | undefined> {
  using file = await Deno.open(path);
  const { size } = await file.stat();
  const header = await readExactly(file, HEADER_BYTES);
  if (!header || new TextDecoder().decode(header.subarray(0, 8)) !== MAGIC) {
    return "it does not begin as a memory layer does";
  }
  const view = new DataView(header.buffer);
  if (view.getUint32(8, true) !== PAGE_BYTES) return "its pages have another size than this host's";
  const found = Number(view.getBigUint64(16, true));
  if (found !== memoryBytes) return `it belongs to a memory of ${found} bytes, not ${memoryBytes}`;
  const count = view.getUint32(12, true);
  const list = count * EXTENT_BYTES < size
    ? await readExactly(file, count * EXTENT_BYTES)
    : undefined;
  if (!list) return "its list of pages is cut";
  const numbers = new DataView(list.buffer);
  let pages = Math.ceil((HEADER_BYTES + count * EXTENT_BYTES) / PAGE_BYTES);
  for (let at = 0; at < count; at++) pages += numbers.getUint32(at * EXTENT_BYTES + 4, true);
  return pages * PAGE_BYTES === size
    ? undefined
    : `it has ${size} bytes instead of ${pages * PAGE_BYTES}`;
}

async function readExactly(
  file: Deno.FsFile,
  bytes: number,
): Promise<Uint8Array<ArrayBuffer> | undefined> {
  const buffer = new Uint8Array(bytes);
  for (let at = 0; at < bytes;) {
    const read = await file.read(buffer.subarray(at));
    if (read === null) return undefined;
    at += read;
  }
  return buffer;
}

/** A save that has begun: the memory of that moment is kept, whatever the guest does from now on. */
export interface LayerSave {
  /** Resolves when the file is whole; rejects with `disk-full` or `vmm-failed`. */
  readonly written: Promise<void>;
}

const FORK_TIMEOUT_MS = 20_000;
/** Gigabytes to a slow disk. */
const WRITE_TIMEOUT_MS = 10 * 60_000;

/**
 * Begins to write the memory of a guest that stands still to a new file; resolves when the guest may go on.
 *
 * @throws GatewayError `vmm-failed`, `timeout`, or the signal's reason.
 */
export async function saveLayer(
  socket: string,
  path: string,
  bottom: "kept" | "new",
  signal: AbortSignal,
): Promise<LayerSave> {
  const conn = await connectUnix(socket);
  if (!conn) throw saveError(path, "the VMM's memory library does not listen");
  const lines = readLines(conn.readable);
  const next = async (what: string, timeoutMs: number) =>
    (await settleWithin(lines.next(), { what, timeoutMs, signal, code: "vmm-failed" })).value;
  try {
    await writeAll(conn, new TextEncoder().encode(`${bottom} ${path}\n`));
    const begun = await next("the VMM's copy of its memory", FORK_TIMEOUT_MS);
    if (begun !== "forked") throw saveError(path, describeEnd(begun));
  } catch (error) {
    closeQuietly(conn);
    throw error;
  }
  const written = next("the end of the memory file", WRITE_TIMEOUT_MS).then((line) => {
    if (line === "done 0") return;
    if (line === `done ${ENOSPC}`) {
      throw asDiskFull(new Error("No space left on device (os error 28)"), path);
    }
    throw saveError(path, describeEnd(line));
  }).finally(() => closeQuietly(conn));
  written.catch(() => {});
  return { written };
}

const ENOSPC = 28;

function describeEnd(line: string | undefined): string {
  const code = /^done (\d+)$/.exec(line ?? "")?.[1];
  return code ? `the memory file could not be written (errno ${code})` : "the VMM ended meanwhile";
}

function closeQuietly(conn: Deno.UnixConn): void {
  try {
    conn.close();
  } catch {
    // The other side's end closed it.
  }
}

function saveError(path: string, why: string): GatewayError {
  return new GatewayError({
    code: "vmm-failed",
    what: `Cannot save the guest's memory to "${path}"`,
    why,
    fix: "run `gateway status`; read vmm.log in the instance's folder",
  });
}
