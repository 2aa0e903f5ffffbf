/**
 * Memory layers from the host's side: whether a file is a whole layer, and asking the VMM's memory library
 * (vm/qemu/ramshim) to write one, to share one with clones, or to give back what an emulator need not hold.
 * It must not stop or start a guest.
 *
 * @module
 */
import { asDiskFull, GatewayError } from "../base/error.ts";
import { LineConnection, readUpTo } from "../base/lines.ts";
import type { LayerMode } from "../machine/vmm.ts";

const MAGIC = "GWRAMLR1";
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
  const pageBytes = hostPageBytes();
  if (view.getUint32(8, true) !== pageBytes) return "its pages have another size than this host's";
  const found = Number(view.getBigUint64(16, true));
  if (found !== memoryBytes) return `it belongs to a memory of ${found} bytes, not ${memoryBytes}`;
  const count = view.getUint32(12, true);
  const list = count * EXTENT_BYTES < size
    ? await readExactly(file, count * EXTENT_BYTES)
    : undefined;
  if (!list) return "its list of pages is cut";
  const numbers = new DataView(list.buffer);
  let pages = Math.ceil((HEADER_BYTES + count * EXTENT_BYTES) / pageBytes);
  let next = 0;
  for (let at = 0; at < count; at++) {
    const first = numbers.getUint32(at * EXTENT_BYTES, true);
    const length = numbers.getUint32(at * EXTENT_BYTES + 4, true);
    // As the library does that maps it (vm/qemu/ramshim).
    if (length === 0 || first < next) return "its list of pages is not in order";
    next = first + length;
    pages += length;
  }
  if (next * pageBytes > memoryBytes) return "its list of pages leads out of the memory";
  return pages * pageBytes === size
    ? undefined
    : `it has ${size} bytes instead of ${pages * pageBytes}`;
}

/** The entry of the auxiliary vector that is the size of a page. */
const AT_PAGESZ = 6n;

/** The size of this host's pages, in bytes. */
function hostPageBytes(): number {
  const { buffer } = Deno.readFileSync("/proc/self/auxv");
  const words = new BigUint64Array(buffer);
  for (let at = 0; at + 1 < words.length; at += 2) {
    if (words[at] === AT_PAGESZ) return Number(words[at + 1]);
  }
  throw new Error("the auxiliary vector has no size of a page");
}

async function readExactly(
  file: Deno.FsFile,
  bytes: number,
): Promise<Uint8Array<ArrayBuffer> | undefined> {
  const found = await readUpTo(file, bytes);
  return found.length === bytes ? found : undefined;
}

/**
 * A save that has begun: the memory of that moment is kept, whatever the guest does from now on. Disposing ends the
 * connection; what is being written is written on.
 */
export interface LayerSave extends Disposable {
  /** Resolves when the file is whole; rejects with `disk-full` or `vmm-failed`. */
  readonly written: Promise<void>;
  /**
   * Makes the VMM take what the guest has not changed since from the file; only for a save that said so, while the guest
   * stands still. Rejects with `vmm-failed`; the memory is right then too.
   */
  adopt(): Promise<void>;
}

const FORK_TIMEOUT_MS = 20_000;
/** Gigabytes to a slow disk. */
const WRITE_TIMEOUT_MS = 10 * 60_000;
const ADOPT_TIMEOUT_MS = 20_000;

/**
 * Begins to write the memory of a guest that stands still to a new file; resolves when the guest may go on.
 *
 * @throws GatewayError `vmm-failed`, `timeout`, or the signal's reason.
 */
export async function saveLayer(
  socket: string,
  path: string,
  how: { readonly mode: LayerMode; readonly adopt: boolean },
  signal: AbortSignal,
): Promise<LayerSave> {
  const library = await LineConnection.connect(socket);
  if (!library) throw saveError(path, "the VMM's memory library does not listen");
  const { mode, adopt } = how;
  const bound = { code: "vmm-failed", signal } as const;
  try {
    await library.say(`${mode}${adopt ? "+adopt" : ""} ${path}`);
    const what = "the VMM's copy of its memory";
    const begun = await library.hear({ ...bound, what, timeoutMs: FORK_TIMEOUT_MS });
    if (begun !== "forked") throw saveError(path, describeEnd(begun));
  } catch (error) {
    library[Symbol.dispose]();
    throw error;
  }
  const end = { ...bound, what: "the end of the memory file", timeoutMs: WRITE_TIMEOUT_MS };
  const written = library.hear(end)
    .then((line) => {
      if (line === (adopt ? "written" : "done 0")) return;
      throw writeError(path, line);
    });
  written.catch(() => {});
  return {
    written,
    [Symbol.dispose]: () => library[Symbol.dispose](),
    adopt: async () => {
      await library.say("adopt");
      const what = "the VMM to share its memory";
      const line = await library.hear({ ...bound, what, timeoutMs: ADOPT_TIMEOUT_MS });
      if (line !== "done 0") throw saveError(path, describeEnd(line));
    },
  };
}

/** The VMM has no functions of those names. */
const ENOSYS = 38;

/**
 * Asks an emulator to give back the code it has translated when that takes more than so many MiB. What the guest still
 * runs is translated anew. Gives the MiB it had when it did so, 0 when it did not, undefined when it cannot.
 *
 * @throws GatewayError `vmm-failed`, `timeout`, or the signal's reason.
 */
export async function trimCode(
  socket: string,
  atMostMiB: number,
  signal: AbortSignal,
): Promise<number | undefined> {
  using library = await LineConnection.connect(socket);
  if (!library) return undefined;
  await library.say(`trim ${atMostMiB}`);
  const bound = { what: "the VMM to give code back", timeoutMs: ADOPT_TIMEOUT_MS, signal };
  const next = () => library.hear({ ...bound, code: "vmm-failed" });
  const first = await next();
  const mib = /^trimmed (\d+)$/.exec(first ?? "")?.[1];
  const end = mib === undefined ? first : await next();
  if (end === "done 0") return Number(mib ?? 0);
  if (end === `done ${ENOSYS}`) return undefined;
  throw new GatewayError({
    code: "vmm-failed",
    what: "Cannot make the VMM give back translated code",
    why: describeEnd(end),
    fix: "run `gateway status`; the instance goes on if it is still ready",
  });
}

/** Names of the errors with which a kernel refuses Landlock: it was built without, or started without. */
const NO_LANDLOCK: Readonly<Record<string, string>> = {
  38: "this kernel has none",
  95: "it is turned off on this host",
};

/**
 * How the VMM is confined, for people: "seccomp and Landlock 7". Undefined when its library does not listen.
 *
 * @throws GatewayError `vmm-failed`, `timeout`, or the signal's reason.
 */
export async function askConfinement(
  socket: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  using library = await LineConnection.connect(socket);
  if (!library) return undefined;
  await library.say("confinement");
  const what = "the VMM to tell how it is confined";
  const line = await library.hear({
    what,
    timeoutMs: ADOPT_TIMEOUT_MS,
    signal,
    code: "vmm-failed",
  });
  const [, word, number = ""] = /^(landlock|unconfined) (\d+)$/.exec(line ?? "") ?? [];
  if (word === "landlock") return `seccomp and Landlock ${number}`;
  if (word) return `seccomp; no Landlock: ${NO_LANDLOCK[number] ?? `errno ${number}`}`;
  throw new GatewayError({
    code: "vmm-failed",
    what: "Cannot find out how the VMM is confined",
    why: describeEnd(line),
    fix: "read vmm.log in the instance's folder",
  });
}

const ENOSPC = 28;

function describeEnd(line: string | undefined): string {
  if (line === undefined) return "the VMM ended meanwhile";
  const code = /^done (\d+)$/.exec(line)?.[1];
  return code
    ? `the VMM's memory library says errno ${code}`
    : `the VMM's memory library says "${line}"`;
}

function writeError(path: string, line: string | undefined): GatewayError {
  if (line === `done ${ENOSPC}`) {
    return asDiskFull(new Error("No space left on device (os error 28)"), path) as GatewayError;
  }
  return saveError(path, describeEnd(line));
}

function saveError(path: string, why: string): GatewayError {
  return new GatewayError({
    code: "vmm-failed",
    what: `Cannot save the guest's memory to "${path}"`,
    why,
    fix: "run `gateway status`; read vmm.log in the instance's folder",
  });
}
