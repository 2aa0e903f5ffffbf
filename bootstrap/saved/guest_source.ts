/**
 * Where a start gets its guest from: from its suspend slot, or from its disk. The slot is also how a new instance gets
 * the memory of another one (golden.ts, fork.ts put it there).
 * It must not know a VMM's own words.
 *
 * @module
 */
import { join } from "@std/path";
import { writeFileAtomic } from "../../vm/base/durable.ts";
import { describeError } from "../../vm/base/error.ts";
import type { Span } from "../../vm/base/event.ts";
import { exists, type InstancePaths } from "../../vm/base/layout.ts";
import {
  type DiskChain,
  overlayOn,
  readDiskChain,
  saveDiskChain,
} from "../../vm/instance/disk_chain.ts";
import { dropDisk, markFinished, markUnfinished } from "../../vm/instance/folder.ts";
import type { InstanceConfig } from "../../vm/instance/instance.ts";
import {
  dropForks,
  dropSlot,
  filePath,
  findFault,
  machineKey,
  readState,
  type SavedState,
  slotRecord,
  sweep,
} from "../../vm/instance/saved_state.ts";
import { checkOverlay, ensureStateDisk } from "../../vm/instance/state_disk.ts";
import type { VmSpec } from "../../vm/machine/spec.ts";
import { Trust } from "../../vm/store/signing.ts";
import { adoptRenewed } from "../cluster/slot_certificates.ts";
import type { ChosenVmm } from "../plan/choose_vmm.ts";
import { adoptGolden, isNewInstance } from "./golden.ts";

/** What the guest of a start comes from: a saved state, or its disk. */
export interface GuestSource {
  /** Exactly as it is started; vm.json has it. */
  readonly spec: VmSpec;
  /** The saved state that it resumes from. */
  readonly slot: SavedState | undefined;
  /** Of the machine. */
  readonly key: string;
}

/** The key of the machine that a spec makes for an instance. */
export function instanceKey(
  spec: VmSpec,
  { stateMiB }: Pick<InstanceConfig, "stateMiB">,
  { check: { description: vmm, machine = "" } }: Pick<ChosenVmm, "check">,
): string {
  return machineKey(spec, { vmm, machine, stateMiB });
}

/** Takes the suspend slot if it is whole and fits; drops it otherwise, and says why. */
async function takeSlot(
  paths: InstancePaths,
  spec: VmSpec,
  key: string,
  cold: boolean,
  span: Span,
): Promise<Omit<GuestSource, "key">> {
  await dropForks(paths);
  const slot = await readSlot(paths, cold, span);
  const fault = slot && (cold ? "--cold was given" : await findFault(paths.dir, slot, key));
  if (slot && fault === undefined) {
    const known = await adoptRenewed(paths, slot);
    if (known.from?.self) span.log("its certificates were renewed since; the guest adopts them");
    span.log(slot.from ? `going on from "${slot.from.name}"` : `going on from ${slot.savedAt}`);
    const layers = slot.ram.map(({ name }) => filePath(paths.dir, name));
    const incoming = { devicesPath: filePath(paths.dir, slot.devices.name) };
    return { spec: { ...spec, ram: { layers }, incoming }, slot: known };
  }
  if (slot) span.warn(`the suspended state is dropped (${fault}); starting from the disk`);
  await dropSlot(paths);
  await sweepFiles(paths, span);
  return { spec, slot: undefined };
}

/** What cannot be read is only given up where the user says so. */
async function readSlot(
  paths: InstancePaths,
  cold: boolean,
  span: Span,
): Promise<SavedState | undefined> {
  const fix = `restore the file, or start from the disk: gateway up --cold --name ${paths.name}`;
  try {
    return await readState(slotRecord(paths), fix);
  } catch (error) {
    if (!cold) throw error;
    span.warn(`the suspended state is dropped (${describeError(error)}; --cold was given)`);
    return undefined;
  }
}

/** Removes what no record names; warns where a record cannot be read, since nothing is removed then. */
export async function sweepFiles(
  paths: InstancePaths,
  span: Span,
  alsoKeep: readonly string[] = [],
): Promise<void> {
  const unreadable = await sweep(paths, alsoKeep);
  if (unreadable.length === 0) return;
  span.warn(
    `${unreadable.map((path) => `"${path}"`).join(", ")} cannot be read; ` +
      "no file of a saved state is removed meanwhile",
  );
}

/**
 * The instance's disk, made when there is none: over the golden image where there is one of its size, else empty.
 *
 * @throws GatewayError `state-disk-foreign`, `disk-full`, `process-failed`.
 */
async function ensureDisk(
  paths: InstancePaths,
  config: InstanceConfig,
  golden: GoldenDisk | undefined,
  signal: AbortSignal,
): Promise<DiskChain> {
  const known = await readDiskChain(paths.dir);
  if (known.below.length > 0) {
    await checkOverlay(join(paths.dir, known.head.name));
    return known;
  }
  if (golden && !await exists(paths.stateDisk) && golden.stateMiB === config.stateMiB) {
    const below = await golden.linkInto(paths.dir, signal);
    const chain = await overlayOn(paths.dir, { head: below, below: [] }, config.stateMiB);
    await saveDiskChain(paths.dir, chain);
    return chain;
  }
  await ensureStateDisk(paths.stateDisk, config.stateMiB, signal);
  return known;
}

/** A ready-made state disk that others lie over. */
export interface GoldenDisk {
  /** Its size as a guest sees it. */
  readonly stateMiB: number;
  /** Makes it appear in an instance's folder. */
  linkInto(dir: string, signal: AbortSignal): Promise<DiskChain["head"]>;
}

/** The spec with the file that its state disk is. */
function onDisk(spec: VmSpec, dir: string, { head }: DiskChain): VmSpec {
  const disks = spec.disks.map((disk) =>
    disk.serial === "state" ? { ...disk, path: join(dir, head.name), format: head.format } : disk
  );
  return { ...spec, disks };
}

/**
 * Finds out what the guest comes from: its slot, for a new instance the golden state of its machine, else its disk.
 * `planned` is its machine; the file of its disk and its memory are decided here.
 *
 * @throws GatewayError `state-disk-foreign`, `disk-full`, `process-failed`, `instance-schema`, or the signal's reason.
 */
export async function prepareGuest(
  paths: InstancePaths,
  config: InstanceConfig,
  chosen: ChosenVmm,
  planned: VmSpec,
  options: {
    readonly cold: boolean;
    /** The user wants to look into a VM that fails; a golden build's is gone by then. */
    readonly keep: boolean;
    readonly payloadDigest: string;
    /** The golden disk, if there is one; asked only for a new instance. */
    readonly goldenDisk: () => Promise<GoldenDisk | undefined>;
    readonly span: Span;
    readonly signal: AbortSignal;
  },
): Promise<GuestSource> {
  const { cold, keep, payloadDigest, span, signal } = options;
  const key = instanceKey(planned, config, chosen);
  const fresh = await isNewInstance(paths);
  if (fresh) await markUnfinished(paths);
  const adopted = fresh && !cold && !keep && chosen.vmm.supports.snapshot &&
    await mayUseGolden(span) &&
    await span.run(
      "golden",
      (s) => adoptGolden(paths, { config, key, payloadDigest, span: s, signal }),
    );
  if (fresh && !adopted) await dropDisk(paths);
  // A golden state brings its own disk, and to look for this one can mean to read all of it.
  const golden = fresh && !adopted ? await options.goldenDisk() : undefined;
  const disk = await span.run("state disk", () => ensureDisk(paths, config, golden, signal));
  await markFinished(paths);
  const source = await takeSlot(paths, onDisk(planned, paths.dir, disk), key, cold, span);
  // So that any boot can be replayed by hand.
  await writeFileAtomic(paths.vmFile, JSON.stringify(source.spec, null, 2) + "\n");
  return { ...source, key };
}

/** Golden memory is not signed: where only signed images may boot, a new instance boots. */
async function mayUseGolden(span: Span): Promise<boolean> {
  const { active } = await Trust.load();
  if (active) span.log("a key is trusted and golden memory is not signed, so the instance boots");
  return !active;
}
