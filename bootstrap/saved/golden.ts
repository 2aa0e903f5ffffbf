/**
 * This room has what resumes from saved memory: the golden state and disk, snapshots, forks, and the choice between
 * saved memory and the disk. How the files of a saved state are kept is in vm/instance. Read guest_source.ts next,
 * then fork.ts.
 *
 * Golden state: a cluster that was booted once on this machine and saved when it was ready and quiet, from which new
 * instances of this user go on. It belongs to exactly one machine (VMM, kernel, root image, sizes) and one payload;
 * another one gets another golden state.
 * It holds keys that its instances share until they are changed (cluster/adopt.ts), so it is 0600 and never leaves the host.
 *
 * @module
 */
import { join } from "@std/path";
import { ownLock } from "../../vm/base/file_lock.ts";
import { digestBytes } from "../../vm/base/digest.ts";
import { describeError, GatewayError } from "../../vm/base/error.ts";
import { cacheDir, ensurePrivateDir, type InstancePaths } from "../../vm/base/layout.ts";
import { together } from "../../vm/base/together.ts";
import { waitFor } from "../../vm/base/wait.ts";
import { chainFiles, overlayOn, saveDiskChain, shareFile } from "../../vm/instance/disk_chain.ts";
import { findDiskFile } from "../../vm/instance/folder.ts";
import type { InstanceConfig } from "../../vm/instance/instance.ts";
import {
  findFault,
  readState,
  type SavedState,
  slotRecord,
  writeState,
} from "../../vm/instance/saved_state.ts";
import { keepAdvice } from "../cluster/evidence.ts";
import { buildGolden, type GoldenNeeds } from "./golden_build.ts";
import { removePrivateHome } from "./private_gateway.ts";

/** How many golden states of other sizes and versions are kept. */
const KEEP = 3;
const BUILD_WAIT_MS = 30 * 60_000;

/** Where golden states are. */
const goldenRoot = () => join(cacheDir(), "golden");
const recordOf = (dir: string) => join(dir, "golden.json");

/** The key of a machine with its payload's digest; secrets do not count. */
function goldenKey(machineKey: string, payloadDigest: string): string {
  return digestBytes(`${machineKey}\n${payloadDigest}`);
}

/** Whether nothing of an instance is there yet: only then it may go on from another's memory. */
export async function isNewInstance(paths: InstancePaths): Promise<boolean> {
  return await findDiskFile(paths) === undefined;
}

/**
 * Makes a new instance go on from the golden state of its machine, which is built when it is missing. When none
 * could be made the reason is a warning, and the instance starts from nothing: then this gives false.
 *
 * @throws GatewayError `service-not-ready` when the payload does not answer, or the signal's reason.
 */
export async function adoptGolden(paths: InstancePaths, needs: GoldenNeeds): Promise<boolean> {
  try {
    const { dir, state } = await ensureGolden(needs);
    await placeState(paths, needs.config, {
      dir,
      state,
      from: { name: "golden", pkiDir: join(dir, "pki"), k3sYaml: join(dir, "k3s.yaml") },
    }, needs.signal);
    return true;
  } catch (error) {
    if (needs.signal.aborted) throw error;
    // A payload that did not answer there does not answer here, and a start would take as long again to say so.
    if (error instanceof GatewayError && error.code === "service-not-ready") {
      const { code, what, why, details } = error;
      const fix = keepAdvice(needs.config.name);
      throw new GatewayError({ code, what, why, fix, details, cause: error });
    }
    needs.span.warn(`no golden state (${describeError(error)}); starting from nothing`);
    return false;
  }
}

/** Finds or builds the golden state of a machine; one process builds, others wait for it. */
export async function ensureGolden(
  needs: GoldenNeeds,
): Promise<{ readonly dir: string; readonly state: SavedState }> {
  const key = goldenKey(needs.key, needs.payloadDigest);
  const dir = join(goldenRoot(), key.slice(0, 16));
  await sweepBuilds(goldenRoot()).catch((error) =>
    needs.span.warn(`what an earlier build has left stays (${describeError(error)})`)
  );
  const found = await findGolden(dir, needs);
  if (found) return { dir, state: found };
  await ensurePrivateDir(goldenRoot());
  const lock = await Deno.open(`${dir}.lock`, { create: true, write: true, mode: 0o600 });
  using _held = ownLock(lock);
  await waitFor({
    what: "the golden state that another process builds",
    probe: async () => (await lock.tryLock(true)) || undefined,
    timeoutMs: BUILD_WAIT_MS,
    intervalMs: 250,
    signal: needs.signal,
  });
  const meanwhile = await findGolden(dir, needs);
  if (meanwhile) return { dir, state: meanwhile };
  await Deno.remove(dir, { recursive: true }).catch(() => {});
  await prune(KEEP - 1);
  const state = await needs.span.run(
    "build golden",
    (span) => buildGolden(dir, recordOf(dir), { ...needs, span }),
    { label: "golden state" },
  );
  return { dir, state };
}

async function findGolden(dir: string, needs: GoldenNeeds): Promise<SavedState | undefined> {
  const state = await readState(recordOf(dir)).catch(() => undefined);
  if (!state) return undefined;
  const fault = await findFault(dir, state, needs.key);
  if (fault === undefined) {
    // The oldest in use goes first when there are too many.
    await Deno.utime(recordOf(dir), new Date(), new Date()).catch(() => {});
    return state;
  }
  needs.span.warn(`the golden state is dropped (${fault})`);
  return undefined;
}

/** Ends and removes what builds that were killed have left, of any machine: their VMs have gigabytes of memory. */
export async function sweepBuilds(root: string): Promise<void> {
  for (const { name } of await Array.fromAsync(Deno.readDir(root)).catch(() => [])) {
    const key = /^([0-9a-f]{16})\.build$/.exec(name)?.[1];
    if (key === undefined) continue;
    const path = join(root, `${key}.lock`);
    const lock = await Deno.open(path, { create: true, write: true, mode: 0o600 });
    using _held = ownLock(lock);
    // Held: it is being built.
    if (await lock.tryLock(true)) await removePrivateHome(join(root, name));
  }
}

/** Removes the golden states that were not used for the longest time. */
async function prune(keep: number): Promise<void> {
  const found: { path: string; usedMs: number }[] = [];
  for await (const { name, isDirectory } of Deno.readDir(goldenRoot())) {
    const path = join(goldenRoot(), name);
    if (!isDirectory || name.includes(".")) continue;
    const info = await Deno.stat(recordOf(path)).catch(() => undefined);
    found.push({ path, usedMs: info?.mtime?.getTime() ?? 0 });
  }
  found.sort((a, b) => b.usedMs - a.usedMs);
  for (const { path } of found.slice(keep)) {
    // The record goes first, so that what is left of a cut removal is no golden state.
    await Deno.remove(recordOf(path)).catch(() => {});
    await Deno.remove(path, { recursive: true }).catch(() => {});
  }
}

/** A saved state of somebody else. */
export interface ForeignState {
  /** Where its files are. */
  readonly dir: string;
  readonly state: SavedState;
  readonly from: NonNullable<SavedState["from"]>;
}

/**
 * Puts another one's state into a new instance as its suspend slot: files are linked, the disk gets an overlay, nothing
 * is copied. The record comes last.
 */
export async function placeState(
  paths: InstancePaths,
  config: InstanceConfig,
  foreign: ForeignState,
  signal: AbortSignal,
): Promise<void> {
  const { dir, state, from } = foreign;
  const frozen = state.disk!;
  const share = (name: string) => (ending: AbortSignal) =>
    shareFile(join(dir, name), join(paths.dir, name), ending);
  const layers = state.ram.map(({ name }) => name).filter((name) => !name.startsWith("/"));
  await together([state.devices.name, ...layers, ...chainFiles(frozen)].map(share), { signal });
  const chain = await overlayOn(paths.dir, frozen, config.stateMiB);
  await saveDiskChain(paths.dir, chain);
  await writeState(slotRecord(paths), { ...state, disk: null, sshPort: null, apiPort: null, from });
}
