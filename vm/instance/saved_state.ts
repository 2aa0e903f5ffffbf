/**
 * Saved states of a machine: memory layers, device state, disk, and the record that makes them one. A record is written
 * last and removed first, so that half a state is never taken for a whole one. The suspend slot is the record
 * suspend.json, a snapshot is snapshots/NAME.json; their files lie in the instance's folder under names of their own.
 * It must not talk to a VMM.
 *
 * @module
 */
import { dirname, isAbsolute, join } from "@std/path";
import * as v from "valibot";
import { canonicalJson, digestBytes, digestFile } from "../base/digest.ts";
import {
  removeDurable,
  renameDurable,
  syncDir,
  syncFile,
  writeFileAtomic,
} from "../base/durable.ts";
import { describeError, GatewayError } from "../base/error.ts";
import type { JsonValue } from "../base/event.ts";
import { parseJson } from "../base/json_file.ts";
import { exists, type InstancePaths } from "../base/layout.ts";
import type { VmSpec } from "../machine/spec.ts";
import { chainFiles, DiskChainSchema, readDiskChain } from "./disk_chain.ts";
import { readRecord } from "./record.ts";

const StateFile = v.object({
  name: v.string(),
  sizeBytes: v.number(),
  /** Milliseconds; a file that has another one is hashed again. */
  modifiedMs: v.number(),
  sha256: v.string(),
});

const State = v.object({
  schemaVersion: v.literal(2),
  key: v.string(),
  devices: StateFile,
  /** Bottom first. */
  ram: v.array(StateFile),
  /** Frozen; null in a suspend slot, whose disk is the instance's own. */
  disk: v.nullable(DiskChainSchema),
  savedAt: v.string(),
  /** Digest of what the cluster in it runs; null where nobody knows. */
  payload: v.optional(v.nullable(v.string()), null),
  /** Digest of the instance's certificates that the guest knows; null where nobody knows. */
  certificates: v.optional(v.nullable(v.string()), null),
  /** When the cluster's own certificates end, ISO 8601; null where nobody knows. */
  clusterEnds: v.optional(v.nullable(v.string()), null),
  sshPort: v.nullable(v.number()),
  apiPort: v.nullable(v.number()),
  /** Set where the guest in it is another instance: whose certificates it knows. */
  from: v.nullable(
    v.object({
      name: v.string(),
      pkiDir: v.string(),
      k3sYaml: v.nullable(v.string()),
      /** Set where it is the same instance, whose certificates have changed. */
      self: v.optional(v.boolean()),
    }),
  ),
});

/** A saved state. */
export type SavedState = Readonly<v.InferOutput<typeof State>>;
/** One file of a saved state. */
export type SavedFile = Readonly<v.InferOutput<typeof StateFile>>;
type InDir = Pick<InstancePaths, "dir">;

/** Snapshots of this prefix live for the time of a fork; users cannot name theirs so. */
export const FORK_PREFIX = "gateway-fork-";

/** Where the suspend slot's record is. */
export const slotRecord = ({ dir }: InDir) => join(dir, "suspend.json");
/** Where a snapshot's record is. */
export const snapshotRecord = ({ dir }: InDir, name: string) =>
  join(dir, "snapshots", `${name}.json`);
const spent = (record: string) => `${record}.spent`;

/** What a spec does not tell of its machine. */
export interface MachineFacts {
  /** The VMM with its version and accelerator. */
  readonly vmm: string;
  /** Its machine's type and processor, as the driver tells it. */
  readonly machine: string;
  /** The size of the state disk is part of the devices; that of the payload disk is always the same. */
  readonly stateMiB: number;
}

/**
 * What has to be the same when the guest goes on: the VMM with version and machine, and all of the spec that makes it
 * (kernel and root image are named by their digests). Where files lie, such as the cache, and the command line do not matter.
 */
export function machineKey(spec: VmSpec, facts: MachineFacts): string {
  const { net } = spec;
  const root = spec.disks.find(({ serial }) => serial === "root");
  return digestBytes(canonicalJson({
    ...facts,
    cpus: spec.cpus,
    memoryMiB: spec.memoryMiB,
    kernel: content(spec.kernel.path),
    root: content(root?.path ?? ""),
    disks: spec.disks.map(({ serial, readonly }) => ({ serial, readonly })),
    net: net && net.transport !== "tsi" ? { mac: net.mac, transport: net.transport } : null,
    ports: spec.consolePorts.map(({ name }) => name),
  } as unknown as JsonValue));
}

/** What stands for a file's content: of an artifact its digest, which its path has, of another one its path. */
function content(path: string): string {
  return /\/artifacts\/sha256\/([0-9a-f]{64}\/[^/]+)$/.exec(path)?.[1] ?? path;
}

/** Describes a file that was just written, and puts it on the disk. Reads all of it. */
export async function describeFile(dir: string, name: string): Promise<SavedFile> {
  const path = join(dir, name);
  await syncFile(path);
  await syncDir(dir);
  const { size, mtime } = await Deno.stat(path);
  return {
    name,
    sizeBytes: size,
    modifiedMs: mtime?.getTime() ?? 0,
    sha256: await digestFile(path),
  };
}

/** Describes a file that lives only as long as this host does not start again: nobody will ask for its digest. */
export async function describeShortLived(path: string): Promise<SavedFile> {
  const { size, mtime } = await Deno.stat(path);
  return { name: path, sizeBytes: size, modifiedMs: mtime?.getTime() ?? 0, sha256: "" };
}

/** Makes a state valid: the last step of saving. */
export async function writeState(record: string, state: SavedState): Promise<void> {
  await Deno.mkdir(dirname(record), { recursive: true, mode: 0o700 });
  await syncDir(join(dirname(record), ".."));
  await writeFileAtomic(record, JSON.stringify(state, null, 2) + "\n");
}

/**
 * The state of a record, undefined when there is none.
 *
 * @throws GatewayError `instance-schema` when it cannot be read, with the `fix` of the caller.
 */
export async function readState(record: string, fix?: string): Promise<SavedState | undefined> {
  try {
    const text = await readRecord(record);
    return text === undefined ? undefined : parseJson(State, text, record);
  } catch (error) {
    if (!(error instanceof GatewayError) || fix === undefined) throw error;
    const { code, what, why, cause } = error;
    throw new GatewayError({ code, what, why, fix, cause });
  }
}

/** Whether the instance has a whole slot. */
export async function isSuspended(paths: InDir): Promise<boolean> {
  return await exists(slotRecord(paths));
}

/** Where a file of a state is: in its folder, or, for the memory of a clone that is about to start, anywhere. */
export function filePath(dir: string, name: string): string {
  return isAbsolute(name) ? name : join(dir, name);
}

/**
 * Why a state cannot be used, undefined when it can: another machine, or a file that is gone, cut or changed. The digest
 * of a file is only computed anew when its time or size is not the recorded one.
 */
export async function findFault(
  dir: string,
  state: SavedState,
  key: string,
): Promise<string | undefined> {
  if (state.key !== key) {
    return "it was saved with a different VMM, kernel, root image or machine size";
  }
  for (const file of [state.devices, ...state.ram]) {
    const path = filePath(dir, file.name);
    const info = await Deno.stat(path).catch(() => undefined);
    if (!info) return `"${path}" is gone`;
    if (info.size !== file.sizeBytes) {
      return `"${path}" has ${info.size} bytes instead of ${file.sizeBytes}`;
    }
    if (info.mtime?.getTime() === file.modifiedMs && file !== state.devices) continue;
    if (await digestFile(path) !== file.sha256) return `"${path}" was changed`;
  }
  for (const name of state.disk ? chainFiles(state.disk) : []) {
    if (!await exists(join(dir, name))) return `"${join(dir, name)}" is gone`;
  }
  return undefined;
}

/** Removes what forks that were cut have left. Only for the holder of the instance's lock. */
export async function dropForks(paths: InDir): Promise<void> {
  for (const { name } of await listSnapshots(paths)) {
    if (name.startsWith(FORK_PREFIX)) {
      await removeDurable(snapshotRecord(paths, name));
    }
  }
}

/** Removes the slot for good, before the disk changes; its files go with {@linkcode sweep}. */
export async function dropSlot(paths: InDir): Promise<void> {
  const record = slotRecord(paths);
  await removeDurable(record, spent(record));
}

/**
 * Spends the slot before the guest goes on from it: its disk changes from then on, and the same memory must never meet a
 * changed disk, whatever is killed when. Disposing gives the slot back, unless it was kept.
 */
export async function spendSlot(
  paths: InDir,
): Promise<AsyncDisposable & { readonly keepSpent: () => void }> {
  const record = slotRecord(paths);
  await renameDurable(record, spent(record));
  let used = false;
  return {
    keepSpent: () => used = true,
    async [Symbol.asyncDispose]() {
      if (used) await dropSlot(paths);
      else await Deno.rename(spent(record), record).catch(() => {});
    },
  };
}

/** A snapshot with its name. */
export interface NamedState {
  readonly name: string;
  readonly state: SavedState;
}

/** A snapshot whose record cannot be read. */
export interface DamagedSnapshot {
  readonly name: string;
  readonly file: string;
  /** One observed fact. */
  readonly why: string;
}

/** The instance's snapshots, oldest first. Those whose record cannot be read are {@linkcode listDamagedSnapshots}'s. */
export async function listSnapshots(paths: InDir): Promise<NamedState[]> {
  return (await readSnapshots(paths)).whole;
}

/** Snapshots whose record cannot be read; their files are kept. */
export async function listDamagedSnapshots(paths: InDir): Promise<DamagedSnapshot[]> {
  return (await readSnapshots(paths)).damaged;
}

async function readSnapshots(paths: InDir) {
  const whole: NamedState[] = [];
  const damaged: DamagedSnapshot[] = [];
  for (const file of await recordNames(join(paths.dir, "snapshots"))) {
    const name = file.slice(0, -".json".length);
    const record = snapshotRecord(paths, name);
    try {
      const state = await readState(record);
      if (state) whole.push({ name, state });
    } catch (error) {
      const why = error instanceof GatewayError ? error.why : describeError(error);
      damaged.push({ name, file: record, why });
    }
  }
  whole.sort((a, b) => (a.state.savedAt < b.state.savedAt ? -1 : 1));
  return { whole, damaged };
}

async function recordNames(dir: string): Promise<string[]> {
  const names: string[] = [];
  try {
    for await (const { name } of Deno.readDir(dir)) if (/.\.json$/.test(name)) names.push(name);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return names.sort();
}

/**
 * The snapshot of that name.
 *
 * @throws GatewayError `snapshot-unknown` naming those that exist, `instance-schema` when its record cannot be read.
 */
export async function requireSnapshot(paths: InstancePaths, name: string): Promise<SavedState> {
  const { whole: all, damaged } = await readSnapshots(paths);
  const found = all.find((one) => one.name === name);
  if (found) return found.state;
  const broken = damaged.find((one) => one.name === name);
  if (broken) {
    throw new GatewayError({
      code: "instance-schema",
      what: `Cannot read "${broken.file}"`,
      why: broken.why,
      fix: "restore the file, or give the snapshot up: " +
        `gateway snapshot rm ${name} --name ${paths.name}`,
    });
  }
  throw new GatewayError({
    code: "snapshot-unknown",
    what: `Cannot find the snapshot "${name}" of "${paths.name}"`,
    why: all.length === 0 ? "it has none" : `it has only ${all.map((one) => one.name).join(", ")}`,
    fix: `run \`gateway snapshot list --name ${paths.name}\``,
  });
}

/** Files that belong to saved states or the disk, by name. */
const OURS = /^(dev-[0-9a-f]+\.bin|ram-[0-9a-f]+\.layer|disk-[0-9a-f]+\.(qcow2|raw))(\.tmp.*)?$/;

/** Whether a file belongs to a saved state or is an overlay. */
export function isStateFile(name: string): boolean {
  return OURS.test(name);
}

/**
 * Removes the files of the instance's folder that no record names: of states that were removed, and of saves that were
 * cut. Only for the holder of the instance's lock, and never while a save is under way. While a record cannot be read
 * nothing is removed, since nobody knows which files are its own; gives the paths of such records.
 *
 * @throws GatewayError `instance-schema` when the disk's record cannot be read.
 */
export async function sweep(
  paths: InDir,
  alsoKeep: readonly string[] = [],
): Promise<readonly string[]> {
  const { whole, damaged } = await readSnapshots(paths);
  const unreadable = damaged.map(({ file }) => file);
  const states: (SavedState | undefined)[] = [];
  for (const record of [slotRecord(paths), spent(slotRecord(paths))]) {
    states.push(await readState(record).catch(() => void unreadable.push(record)));
  }
  if (unreadable.length > 0) return unreadable;
  const named = whole.map(({ state }) => state);
  const keep = new Set([...chainFiles(await readDiskChain(paths.dir)), ...alsoKeep]);
  for (const state of [...states, ...named]) {
    if (!state) continue;
    for (const { name } of [state.devices, ...state.ram]) keep.add(name);
    for (const name of state.disk ? chainFiles(state.disk) : []) keep.add(name);
  }
  for await (const { name } of Deno.readDir(paths.dir)) {
    if (OURS.test(name) && !keep.has(name)) {
      await Deno.remove(join(paths.dir, name)).catch(() => {});
    }
  }
  return [];
}
