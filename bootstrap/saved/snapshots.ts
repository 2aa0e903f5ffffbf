/**
 * `gateway suspend`, and the snapshots of an instance: create, list, restore, remove. The supervisor saves; here it is
 * asked, and what concerns an instance that does not run is done.
 * It must not talk to a VMM.
 *
 * @module
 */
import { removeDurable } from "../../vm/base/durable.ts";
import { GatewayError, usageError } from "../../vm/base/error.ts";
import { checkSnapshotName } from "../../vm/base/layout.ts";
import { waitFor } from "../../vm/base/wait.ts";
import { chainFiles, overlayOn, saveDiskChain } from "../../vm/instance/disk_chain.ts";
import {
  findInstance,
  type InstanceState,
  LockedInstance,
  requireInstance,
  requireRunning,
} from "../../vm/instance/instance.ts";
import {
  dropSlot,
  FORK_PREFIX,
  listDamagedSnapshots,
  listSnapshots,
  requireSnapshot,
  slotRecord,
  snapshotRecord,
  sweep,
  writeState,
} from "../../vm/instance/saved_state.ts";
import type { SaveReport } from "../run/save.ts";
import { askSupervisor } from "../run/requests.ts";
import { columns, LINE_WIDTH, wrap } from "../view/table.ts";

const END_TIMEOUT_MS = 60_000;

/**
 * Puts a running instance to sleep: memory and devices stay on disk, nothing runs, and `up` goes on from there.
 *
 * @throws GatewayError `instance-unknown`, `instance-stopped`, `not-supported`, `disk-full`, `vmm-failed` (the instance
 * runs on).
 */
export async function suspend(name: string, signal: AbortSignal): Promise<void> {
  const { paths } = await requireRunning(name);
  await askSupervisor(paths, { do: "suspend" }, signal);
  await waitForState(name, (now) => now === "suspended", signal);
}

async function waitForState(
  name: string,
  holds: (state: InstanceState | undefined) => boolean,
  signal: AbortSignal,
): Promise<void> {
  await waitFor({
    what: `the end of the run of "${name}"`,
    probe: async () => holds((await findInstance(name))?.state) || undefined,
    timeoutMs: END_TIMEOUT_MS,
    signal,
  });
}

/**
 * Keeps memory, devices and disk of a running instance under a name; the guest stands still for a moment and runs on.
 *
 * @throws GatewayError as {@linkcode suspend}, `snapshot-exists`, `usage` for a bad name.
 */
export async function createSnapshot(
  name: string,
  snapshot: string,
  signal: AbortSignal,
): Promise<SaveReport> {
  checkSnapshotName(snapshot);
  if (snapshot.startsWith(FORK_PREFIX)) {
    throw usageError(
      `Cannot use the snapshot name "${snapshot}"`,
      `names that begin with "${FORK_PREFIX}" are gateway's own`,
      "choose another name",
    );
  }
  const { paths } = await requireRunning(name);
  const known = [...await listSnapshots(paths), ...await listDamagedSnapshots(paths)];
  if (known.some((one) => one.name === snapshot)) {
    throw new GatewayError({
      code: "snapshot-exists",
      what: `Cannot make the snapshot "${snapshot}" of "${name}"`,
      why: "there is one of that name",
      fix: `choose another name, or run \`gateway snapshot rm ${snapshot} --name ${name}\``,
    });
  }
  return (await askSupervisor(paths, { do: "snapshot", name: snapshot, ramDir: null }, signal))!;
}

/** A snapshot as lists show it. */
export interface SnapshotSummary {
  /** Unique in its instance. */
  readonly name: string;
  /** ISO 8601; null when its record cannot be read. */
  readonly savedAt: string | null;
  /** The memory that this snapshot alone keeps; null when its record cannot be read. */
  readonly ramBytes: number | null;
  /** The record that cannot be read, and why; its files are kept. Null for a good one. */
  readonly damage: { readonly file: string; readonly why: string } | null;
}

/** The snapshots of an instance, oldest first. @throws GatewayError `instance-unknown`. */
export async function snapshotsOf(name: string): Promise<SnapshotSummary[]> {
  const { paths } = await requireInstance(name);
  const all = await listSnapshots(paths);
  const damaged = await listDamagedSnapshots(paths);
  return [
    ...all.filter((one) => !one.name.startsWith(FORK_PREFIX)).map(({ name, state }) => ({
      name,
      savedAt: state.savedAt,
      ramBytes: state.ram.at(-1)?.sizeBytes ?? 0,
      damage: null,
    })),
    ...damaged.map(({ name, file, why }) => ({
      ...{ name, savedAt: null, ramBytes: null, damage: { file, why } },
    })),
  ];
}

/**
 * Removes a snapshot and the files that only it needed, also one whose record cannot be read.
 *
 * @throws GatewayError `instance-unknown`, `snapshot-unknown`, `instance-locked` while the instance starts or stops.
 */
export async function removeSnapshot(
  name: string,
  snapshot: string,
  signal: AbortSignal,
): Promise<void> {
  const { paths, state } = await requireInstance(name);
  const damaged = (await listDamagedSnapshots(paths)).some((one) => one.name === snapshot);
  if (!damaged) await requireSnapshot(paths, snapshot);
  if (state === "running") {
    await askSupervisor(paths, { do: "forget", name: snapshot }, signal);
    return;
  }
  await using _locked = await LockedInstance.open(name, signal);
  await removeDurable(snapshotRecord(paths, snapshot));
  await sweep(paths);
}

/**
 * Puts an instance back to a snapshot: what it did since is gone. A running one is stopped first. Afterwards it is
 * suspended at that moment, and `up` goes on from there.
 *
 * @throws GatewayError `instance-unknown`, `snapshot-unknown`.
 */
export async function restoreSnapshot(
  name: string,
  snapshot: string,
  signal: AbortSignal,
): Promise<void> {
  const { paths, config, state: before } = await requireInstance(name);
  const state = await requireSnapshot(paths, snapshot);
  if (before === "running") {
    // What the guest would write while it stops is given up anyway.
    await askSupervisor(paths, { do: "discard" }, signal);
    await waitForState(name, (now) => now !== "running", signal);
  }
  await using locked = await LockedInstance.open(name, signal);
  const frozen = state.disk!;
  const chain = await overlayOn(locked.paths.dir, frozen, config.stateMiB);
  await dropSlot(paths);
  await saveDiskChain(paths.dir, chain);
  await writeState(slotRecord(paths), { ...state, disk: null });
  await sweep(paths, chainFiles(frozen));
}

/** `gateway snapshot list`. */
export function snapshotText(all: readonly SnapshotSummary[]): string {
  if (all.length === 0) return "There are no snapshots. `gateway snapshot create NAME` makes one.";
  const rows = all.map(({ name, savedAt, ramBytes }) => [
    name,
    savedAt === null ? "damaged" : `${savedAt.slice(0, 19)}Z`,
    ramBytes === null ? "-" : `${Math.ceil(ramBytes / (1024 * 1024))} MiB`,
  ]);
  const faults = all.flatMap(({ name, damage }) =>
    damage === null ? [] : [
      ...wrap(`"${name}" is damaged: "${damage.file}": ${damage.why}`, LINE_WIDTH),
      "  its files are kept; restore the record, or remove it with `gateway snapshot rm`",
    ]
  );
  return [...columns([["SNAPSHOT", "SAVED", "MEMORY"], ...rows]), ...faults].join("\n");
}
