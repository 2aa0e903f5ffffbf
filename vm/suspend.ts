/**
 * The suspend slot of an instance: memory file, device state and the record that makes the two valid. The record is
 * written last and removed first, so that half a slot is never taken for a whole one.
 * It must not talk to a VMM.
 *
 * @module
 */
import { join } from "@std/path";
import * as v from "valibot";
import { canonicalJson, digestBytes, digestFile } from "./digest.ts";
import type { JsonValue } from "./event.ts";
import { exists, type InstancePaths, writeFileAtomic } from "./layout.ts";
import { parseJson, type VmSpec } from "./spec.ts";

const Slot = v.object({
  schemaVersion: v.literal(1),
  key: v.string(),
  devicesSha256: v.string(),
  ramBytes: v.number(),
  suspendedAt: v.string(),
  sshPort: v.nullable(v.number()),
  apiPort: v.nullable(v.number()),
});

/** What is known of a suspended instance. */
export type SuspendSlot = Readonly<v.InferOutput<typeof Slot>>;

/** The files of an instance's slot. */
export interface SlotPaths {
  /** The guest's memory while it runs and while it is suspended; 0600. */
  readonly ram: string;
  readonly devices: string;
  readonly record: string;
}

/** Where an instance's slot is. */
export function slotPaths(paths: Pick<InstancePaths, "dir">): SlotPaths {
  return {
    ram: join(paths.dir, "ram.img"),
    devices: join(paths.dir, "suspend.bin"),
    record: join(paths.dir, "suspend.json"),
  };
}

/**
 * What has to be the same when the guest goes on: the VMM and its version, and all of the spec that makes the machine
 * (kernel and root image are named by their digests). The command line only matters to a boot.
 */
export function machineKey(spec: VmSpec, vmmDescription: string): string {
  const { kernel, incoming: _incoming, ...machine } = spec;
  const facts = { ...machine, kernel: kernel.path, vmm: vmmDescription };
  return digestBytes(canonicalJson(facts as unknown as JsonValue));
}

/** Whether the instance has a whole slot. */
export async function isSuspended(paths: Pick<InstancePaths, "dir">): Promise<boolean> {
  return await exists(slotPaths(paths).record);
}

/** Makes the slot valid: the last step of a suspend. */
export async function writeSlot(
  paths: Pick<InstancePaths, "dir">,
  facts: Pick<SuspendSlot, "key" | "sshPort" | "apiPort">,
): Promise<void> {
  const { ram, devices, record } = slotPaths(paths);
  const slot: SuspendSlot = {
    schemaVersion: 1,
    ...facts,
    devicesSha256: await digestFile(devices),
    ramBytes: (await Deno.stat(ram)).size,
    suspendedAt: new Date().toISOString(),
  };
  await writeFileAtomic(record, JSON.stringify(slot, null, 2) + "\n");
}

/** The slot if it is whole and fits the machine; else why it cannot be used. Undefined when there is none. */
export async function readSlot(
  paths: Pick<InstancePaths, "dir">,
  key: string,
): Promise<SuspendSlot | { readonly unusable: string } | undefined> {
  const { ram, devices, record } = slotPaths(paths);
  const text = await Deno.readTextFile(record).catch(() => undefined);
  if (text === undefined) return undefined;
  const slot = parseJson(Slot, text, record);
  if (slot.key !== key) {
    return { unusable: "the VMM, the kernel, the image or the sizes are others now" };
  }
  const size = await Deno.stat(ram).then((info) => info.size, () => -1);
  if (size !== slot.ramBytes) {
    return { unusable: `"${ram}" has ${size} bytes instead of ${slot.ramBytes}` };
  }
  const found = await digestFile(devices).catch(() => "nothing");
  if (found !== slot.devicesSha256) return { unusable: `"${devices}" was changed` };
  return slot;
}

/** Removes the slot's record and device state; the memory file is the caller's. */
export async function dropSlot(paths: Pick<InstancePaths, "dir">): Promise<void> {
  const { devices, record } = slotPaths(paths);
  for (const path of [record, spent(record), devices]) await Deno.remove(path).catch(() => {});
}

const spent = (record: string) => `${record}.spent`;

/**
 * Spends the slot before the guest goes on from it: a guest that has run has changed its memory, and device state must
 * never be loaded into changed memory, whatever is killed when. Disposing gives the slot back, unless it was kept.
 */
export async function spendSlot(
  paths: Pick<InstancePaths, "dir">,
): Promise<AsyncDisposable & { readonly keepSpent: () => void }> {
  const { record } = slotPaths(paths);
  await Deno.rename(record, spent(record));
  let used = false;
  return {
    keepSpent: () => used = true,
    async [Symbol.asyncDispose]() {
      if (used) await dropSlot(paths);
      else await Deno.rename(spent(record), record).catch(() => {});
    },
  };
}
