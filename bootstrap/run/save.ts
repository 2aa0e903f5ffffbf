/**
 * Saves a running instance: as its suspend slot, as a snapshot, or for a fork. The record comes last.
 * It must not decide who may ask (supervisor.ts) and must not know a VMM's own words.
 *
 * @module
 */
import { join } from "@std/path";
import { removeDurable } from "../../vm/base/durable.ts";
import { GatewayError } from "../../vm/base/error.ts";
import type { Span } from "../../vm/base/event.ts";
import type { InstancePaths } from "../../vm/base/layout.ts";
import { overlayOn, readDiskChain, saveDiskChain } from "../../vm/instance/disk_chain.ts";
import type { InstanceConfig } from "../../vm/instance/instance.ts";
import {
  describeFile,
  describeShortLived,
  type SavedFile,
  type SavedState,
  writeState,
} from "../../vm/instance/saved_state.ts";
import type { VmSpec } from "../../vm/machine/spec.ts";
import type { RunningVm, SavedParts, SaveTarget } from "../../vm/machine/vmm.ts";
import { certificatesNow } from "../cluster/slot_certificates.ts";
import { FrozenPrograms, type GuestControl } from "./frozen_programs.ts";
import type { SharedMemory } from "./shared_memory.ts";

/** What a run needs to be saved. */
export interface SaveParts {
  readonly paths: InstancePaths;
  readonly config: InstanceConfig;
  /** As it was started. */
  readonly spec: VmSpec;
  readonly vm: RunningVm;
  readonly control: GuestControl;
  /** Of the machine. */
  readonly key: string;
  readonly ports: { readonly sshPort: number; readonly apiPort: number | null };
  readonly span: Span;
}

/** How one save goes. */
export interface SaveOptions {
  /** The record that makes it valid. */
  readonly record: string;
  /** "end": the disk stays the instance's own. "continue": the disk is frozen under an overlay. */
  readonly then: SaveTarget["then"];
  /** For clones: a file system in memory takes the memory; the instance's folder when absent. */
  readonly ramDir?: string;
  /** What the run shares with its clones; takes part in saves with `ramDir`. */
  readonly shared?: SharedMemory;
}

/** What a save tells. */
export interface SaveReport {
  /** How long the guest stood still. */
  readonly pauseMs: number;
  /** What was written of its memory. */
  readonly ramBytes: number;
}

/**
 * Saves.
 *
 * @throws GatewayError `not-supported`, `disk-full`, `vmm-failed`; the instance runs on then and nothing is left.
 */
export async function saveRun(
  parts: SaveParts,
  options: SaveOptions,
  signal: AbortSignal,
): Promise<SaveReport> {
  const { paths, spec, vm, span } = parts;
  if (!vm.save) throw noSnapshots(paths.name);
  const { dir } = paths;
  const id = crypto.randomUUID().slice(0, 8);
  const devices = `dev-${id}.bin`;
  const ramName = `ram-${id}.layer`;
  const ramPath = join(options.ramDir ?? dir, ramName);
  const overlay = options.then === "continue" ? await prepareOverlay(parts) : undefined;
  const kept = keptBottom(spec, dir);
  const shared = options.ramDir === undefined ? undefined : options.shared;
  // A suspended guest has one successor, which draws what it would have drawn itself.
  const programs = options.then === "continue" ? new FrozenPrograms(parts.control) : undefined;
  let recorded = false;
  try {
    const below = await shared?.linkInto(options.ramDir!) ?? [];
    const complete = async ({ adopted }: SavedParts) => {
      await shared?.take(adopted ? ramPath : undefined, below.length);
      const top = options.ramDir
        ? await describeShortLived(ramPath)
        : await describeFile(dir, ramName);
      await keepRecord(options.record, {
        schemaVersion: 2,
        key: parts.key,
        devices: await describeFile(dir, devices),
        ram: [
          ...(kept === undefined ? [] : [await rememberedFile(dir, kept)]),
          ...below,
          top,
        ],
        disk: overlay?.frozen ?? null,
        savedAt: new Date().toISOString(),
        payload: parts.config.payloadDigest,
        ...await certificatesNow(paths),
        ...parts.ports,
        from: null,
      });
      recorded = true;
    };
    const report = await vm.save({
      devicesPath: join(dir, devices),
      ramPath,
      mode: below.length > 0 ? "changed" : kept === undefined ? "new" : "kept",
      adopt: shared !== undefined,
      overlay: overlay?.switch,
      then: options.then,
      programs,
      complete,
    }, signal);
    logStandstill(span, report, programs);
    return report;
  } catch (error) {
    if (recorded) await removeDurable(options.record);
    for (const path of [join(dir, devices), ramPath]) await Deno.remove(path).catch(() => {});
    // It may have adopted a layer that nobody knows of: the next clone is saved whole.
    await shared?.take(undefined, 0);
    await overlay?.forget();
    throw error;
  }
}

function logStandstill(span: Span, report: SaveReport, programs?: FrozenPrograms): void {
  const pauseMs = Math.round(report.pauseMs);
  const frozen = programs && {
    programsMs: Math.round(programs.stillMs),
    frozenAt: programs.uptimeSeconds ?? 0,
  };
  const also = frozen ? `, its programs for ${frozen.programsMs} ms` : "";
  span.log(`the guest stood still for ${pauseMs} ms${also}`, {
    pauseMs,
    ...frozen,
    ramMiB: Math.round(report.ramBytes / (1024 * 1024)),
  });
}

/** A record that may not be on the disk is taken back: the guest runs on, and its disk with it. */
async function keepRecord(record: string, state: SavedState): Promise<void> {
  try {
    await writeState(record, state);
  } catch (error) {
    await removeDurable(record).catch(() => {});
    throw error;
  }
}

/** The bottom layer of a run, if it is a file of the instance that will still be there. */
function keptBottom(spec: VmSpec, dir: string): string | undefined {
  const bottom = spec.ram?.layers[0];
  return bottom?.startsWith(`${dir}/`) ? bottom.slice(dir.length + 1) : undefined;
}

// The bottom layer of a long-lived instance was hashed when it was written; nothing writes it again.
const remembered = new Map<string, SavedFile>();

/** Keeps what a start has verified, so that the next save need not read a whole layer again. */
export function rememberFiles(dir: string, files: readonly SavedFile[]): void {
  for (const file of files) remembered.set(join(dir, file.name), file);
}

async function rememberedFile(dir: string, name: string): Promise<SavedFile> {
  return remembered.get(join(dir, name)) ?? await describeFile(dir, name);
}

async function prepareOverlay(parts: SaveParts) {
  const { dir } = parts.paths;
  const frozen = await readDiskChain(dir);
  const next = await overlayOn(dir, frozen, parts.config.stateMiB);
  const path = join(dir, next.head.name);
  return {
    frozen,
    switch: {
      path,
      commit: () => saveDiskChain(dir, next),
      revert: () => saveDiskChain(dir, frozen),
    },
    /** Removes the overlay unless the guest writes to it already. */
    forget: async () => {
      const { head } = await readDiskChain(dir);
      if (head.name !== next.head.name) await Deno.remove(path).catch(() => {});
    },
  };
}

function noSnapshots(name: string): GatewayError {
  return new GatewayError({
    code: "not-supported",
    what: `Cannot save the state of the instance "${name}"`,
    why: "its VMM has no snapshots",
    fix: "start it with --vmm qemu, or stop it with `gateway down`, which keeps its disk",
  });
}
