/**
 * Instances whose records cannot be read, and folders that were left half made or half removed. Nothing of them is removed
 * until the user says so.
 * It must not change anything.
 *
 * @module
 */
import { join } from "@std/path";
import { GatewayError } from "../base/error.ts";
import { parseJson } from "../base/json_file.ts";
import { checkInstanceName, instancePaths, instancesDir } from "../base/layout.ts";
import { readDiskChain } from "./disk_chain.ts";
import { findDiskFile, folderContent, isUnfinished } from "./folder.ts";
import { isLocked } from "./lock.ts";
import { InstanceFile, readRecord } from "./record.ts";
import { readState, slotRecord } from "./saved_state.ts";

/** What is wrong with an instance that does not run. */
export interface Damage {
  /** Of its folder. */
  readonly name: string;
  /** The folder. */
  readonly dir: string;
  /** The file that cannot be read. */
  readonly file: string;
  /** One observed fact. */
  readonly why: string;
  /** A command that made or removed it was killed: nothing of a guest is in it, or it was to go. */
  readonly unfinished: boolean;
}

/** What is wrong with the instance of that name; undefined for a good one, a running one, and none. */
export async function findDamage(name: string): Promise<Damage | undefined> {
  const paths = instancePaths(name);
  const found = (file: string, why: string, unfinished = false) => ({
    ...{ name, dir: paths.dir, file, why, unfinished },
  });
  const text = await faultOf(() => readRecord(paths.instanceFile));
  if (text.value === undefined && text.why === undefined) {
    // One that is being made or removed is held.
    if ((await folderContent(paths)).length === 0 || await isLocked(paths)) return undefined;
    if (await isUnfinished(paths)) {
      return found(paths.dir, "the command that made or removed it was killed", true);
    }
    const left = await findDiskFile(paths);
    if (left === undefined) return undefined;
    return found(paths.instanceFile, `it is gone, and "${left}" is there`);
  }
  const config = text.why ??
    (await faultOf(() => parseJson(InstanceFile, text.value!, paths.instanceFile))).why;
  if (config !== undefined) return found(paths.instanceFile, config);
  if (await isLocked(paths)) return undefined;
  const disk = (await faultOf(() => readDiskChain(paths.dir))).why;
  if (disk !== undefined) return found(join(paths.dir, "disk.json"), disk);
  const slot = (await faultOf(() => readState(slotRecord(paths)))).why;
  return slot === undefined ? undefined : found(slotRecord(paths), slot);
}

async function faultOf<T>(
  read: () => T | Promise<T>,
): Promise<{ readonly value?: T; readonly why?: string }> {
  try {
    return { value: await read() };
  } catch (error) {
    if (error instanceof GatewayError) return { why: error.why };
    return { why: error instanceof Error ? error.message : String(error) };
  }
}

/** Every damaged instance of this user, by name. */
export async function listDamage(): Promise<Damage[]> {
  const all: Damage[] = [];
  try {
    for await (const { name } of Deno.readDir(instancesDir())) {
      const damage = isInstanceName(name) ? await findDamage(name) : undefined;
      if (damage) all.push(damage);
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return all.sort((a, b) => (a.name < b.name ? -1 : 1));
}

function isInstanceName(name: string): boolean {
  try {
    checkInstanceName(name);
    return true;
  } catch {
    return false;
  }
}
