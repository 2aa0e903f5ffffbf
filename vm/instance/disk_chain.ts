/**
 * The files behind an instance's state disk: one that the guest writes, and below it those that a snapshot froze and
 * nobody writes again. disk.json names them; without it the disk is state.img alone.
 * It must not start a VM or remove what a snapshot still needs.
 *
 * @module
 */
import { join } from "@std/path";
import * as v from "valibot";
import { syncFile, writeFileAtomic } from "../base/durable.ts";
import { asDiskFull, describeError, GatewayError } from "../base/error.ts";
import { parseJson } from "../base/json_file.ts";
import { exists } from "../base/layout.ts";
import { run } from "../base/process.ts";
import { emptyOverlay } from "./qcow2.ts";

const File = v.object({ name: v.string(), format: v.picklist(["raw", "qcow2"]) });

/** The schema of {@linkcode DiskChain} in a record. */
export const DiskChainSchema = v.object({
  head: File,
  /** Frozen files, the one right below the head first. */
  below: v.array(File),
});

/** Names are of files in the instance's folder. */
export type DiskChain = Readonly<v.InferOutput<typeof DiskChainSchema>>;

const Record = v.object({ schemaVersion: v.literal(1), ...DiskChainSchema.entries });
const recordPath = (dir: string) => join(dir, "disk.json");

/** The disk of an instance that has no snapshot. */
export const PLAIN_DISK: DiskChain = { head: { name: "state.img", format: "raw" }, below: [] };

/** What the instance's disk consists of. @throws GatewayError `instance-schema`. */
export async function readDiskChain(dir: string): Promise<DiskChain> {
  const path = recordPath(dir);
  if (!await exists(path)) {
    await refuseLostRecord(dir, path);
    return PLAIN_DISK;
  }
  const { head, below } = parseJson(Record, await Deno.readTextFile(path), path);
  return { head, below };
}

/** An overlay that no guest has written yet is smaller: its header, and tables of one cluster each. */
const EMPTY_OVERLAY_BYTES = 300_000;

/**
 * Without its record, a state.img that others share may be a frozen file, which must not be written; and one below an
 * overlay is not what the guest wrote last.
 */
async function refuseLostRecord(dir: string, record: string): Promise<void> {
  const why = await findLostRecord(dir);
  if (why === undefined) return;
  throw new GatewayError({
    code: "instance-schema",
    what: `Cannot tell what the disk in "${dir}" consists of`,
    why: `"${record}" is gone and ${why}`,
    fix: "restore the record, or remove the instance with `gateway rm --force NAME`",
  });
}

async function findLostRecord(dir: string): Promise<string | undefined> {
  const { name } = PLAIN_DISK.head;
  const info = await Deno.stat(join(dir, name)).catch(() => undefined);
  if ((info?.nlink ?? 1) > 1) return `other instances share "${name}"`;
  try {
    for await (const entry of Deno.readDir(dir)) {
      if (!/^disk-.+\.qcow2$/.test(entry.name)) continue;
      const { size } = await Deno.stat(join(dir, entry.name));
      if (size > EMPTY_OVERLAY_BYTES) return `a guest has written to "${entry.name}"`;
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return undefined;
}

/** Makes a chain the instance's disk. */
export async function saveDiskChain(dir: string, chain: DiskChain): Promise<void> {
  await writeFileAtomic(
    recordPath(dir),
    JSON.stringify({ schemaVersion: 1, ...chain }, null, 2) + "\n",
  );
}

/** Every file of a chain, the head first. */
export function chainFiles(chain: DiskChain): string[] {
  return [chain.head.name, ...chain.below.map(({ name }) => name)];
}

/**
 * Makes an empty overlay over a chain in the same folder; nothing of the disk is copied. The chain on record stays as it
 * is until {@linkcode saveDiskChain}.
 *
 * @throws GatewayError `disk-full`, `permission`.
 */
export async function overlayOn(
  dir: string,
  chain: DiskChain,
  sizeMiB: number,
): Promise<DiskChain> {
  const name = `disk-${crypto.randomUUID().slice(0, 8)}.qcow2`;
  const { head } = chain;
  // It names the file below without a folder, so that all of them can be linked into another one.
  await writeFileAtomic(join(dir, name), emptyOverlay(head, sizeMiB * 1024 * 1024));
  return { head: { name, format: "qcow2" }, below: [head, ...chain.below] };
}

/**
 * Makes a file also appear in another folder: as a link where both are on one file system, else as a copy (a reflink
 * where that works).
 *
 * @throws GatewayError `process-failed`, `disk-full`; nothing of the copy is left then.
 */
export async function shareFile(from: string, to: string, signal?: AbortSignal): Promise<void> {
  try {
    await Deno.link(from, to);
  } catch (error) {
    if (error instanceof Deno.errors.AlreadyExists) return;
    if (!/EXDEV|cross-device|os error 18/i.test(describeError(error))) throw asGone(error, from);
    // No holes but the file's own: a VMM that has a layer mapped ends when it reads a hole in a full file system in
    // memory, which has no room for the page of zeros.
    const args = ["--reflink=auto", "--sparse=auto", "--preserve=mode,timestamps", from, to];
    try {
      await run("cp", { args, signal, what: `Cannot copy "${from}"` });
      await syncFile(to);
    } catch (error) {
      // Half a copy would be taken for the whole by the next start.
      await Deno.remove(to).catch(() => {});
      throw asDiskFull(error, to);
    }
  }
}

function asGone(error: unknown, path: string): unknown {
  if (!(error instanceof Deno.errors.NotFound)) return error;
  return new GatewayError({
    code: "artifact-corrupt",
    what: "Cannot use a saved state",
    why: `"${path}" is gone`,
    fix: "start from the disk: gateway up --cold",
    cause: error,
  });
}
