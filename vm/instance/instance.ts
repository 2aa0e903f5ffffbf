/**
 * This room is an instance on the disk: its folder, lock, records, disk files and saved states. It starts no VM. Read
 * record.ts next, then disk_chain.ts and saved_state.ts.
 *
 * The instance store: one folder per instance, one lock per running instance, and the record of what runs.
 * It must not start or talk to a VM.
 *
 * @module
 */
import { basename, dirname } from "@std/path";
import { sweepTemporaries, syncDir, writeFileAtomic } from "../base/durable.ts";
import { ownLock, releaseLock } from "../base/file_lock.ts";
import { GatewayError } from "../base/error.ts";
import { parseJson } from "../base/json_file.ts";
import {
  ensurePrivateDir,
  ensureRuntimeDir,
  exists,
  type InstancePaths,
  instancePaths,
  instancesDir,
  isPrivateDir,
} from "../base/layout.ts";
import { sweepMemory } from "../base/memory_dir.ts";
import { signalProcess } from "../base/process.ts";
import { isAlive, type ProcessId } from "../base/process_table.ts";
import { waitFor } from "../base/wait.ts";
import {
  folderContent,
  markFinished,
  removeEmptyDir,
  removeFolder,
  settleFolder,
} from "./folder.ts";
import { isLocked, lockInstance } from "./lock.ts";
import {
  type InstanceConfig,
  InstanceFile,
  readRecord,
  readRun,
  type RunRecord,
} from "./record.ts";
import { isSuspended } from "./saved_state.ts";

export type { InstanceConfig, LaterImages, RunRecord } from "./record.ts";
export type { AllowedNet, EgressMode, HostService, PortForward } from "../base/ports.ts";

/**
 * How an instance is. `suspended`: its memory is kept and `up` goes on from it. `crashed`: a record of a run is there, its
 * supervisor is not.
 */
export type InstanceState = "running" | "stopped" | "crashed" | "suspended";

/** An instance seen from outside, without its lock. */
export interface InstanceView {
  /** Those of the run, when there is one: its sockets lie where it was started. */
  readonly paths: InstancePaths;
  readonly config: InstanceConfig;
  readonly state: InstanceState;
  readonly run: RunRecord | undefined;
}

/** Every instance of this user, by name. Folders that cannot be read as instances are left out. */
export async function listInstances(): Promise<InstanceView[]> {
  const views: InstanceView[] = [];
  try {
    for await (const entry of Deno.readDir(instancesDir())) {
      if (!entry.isDirectory && !entry.isSymlink) continue;
      const view = await findInstance(entry.name).catch(() => undefined);
      if (view) views.push(view);
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return views.sort((a, b) => (a.config.name < b.config.name ? -1 : 1));
}

/** The instance, or undefined when there is none of that name. @throws GatewayError `usage`, `instance-schema`. */
export async function findInstance(name: string): Promise<InstanceView | undefined> {
  const paths = instancePaths(name);
  const text = await readRecord(paths.instanceFile);
  if (text === undefined) return undefined;
  const config = parseJson(InstanceFile, text, paths.instanceFile);
  const locked = await isLocked(paths);
  const left = await readRun(paths);
  const run = left === "unreadable" ? undefined : left;
  return {
    ...{ config, run },
    paths: run?.runtimeDir ? { ...paths, runtimeDir: run.runtimeDir } : paths,
    state: await stateOf(paths, locked, left !== undefined),
  };
}

async function stateOf(
  paths: InstancePaths,
  locked: boolean,
  hasRecord: boolean,
): Promise<InstanceState> {
  if (locked) return "running";
  if (hasRecord) return "crashed";
  return await isSuspended(paths) ? "suspended" : "stopped";
}

/** The instance. @throws GatewayError `instance-unknown` naming those that exist. */
export async function requireInstance(name: string): Promise<InstanceView> {
  const view = await findInstance(name);
  if (view) return view;
  throw await unknownInstance(name);
}

async function unknownInstance(name: string): Promise<GatewayError> {
  const names = (await listInstances()).map((other) => other.config.name);
  return new GatewayError({
    code: "instance-unknown",
    what: `Cannot find the instance "${name}"`,
    why: names.length === 0 ? "there are no instances yet" : `there is only ${names.join(", ")}`,
    fix: `run \`gateway up --name ${name}\` to make it, or \`gateway list\``,
  });
}

/**
 * The running instance and its record.
 *
 * @throws GatewayError `instance-unknown`, `instance-stopped`, `instance-locked`, `guest-unreachable`.
 */
export async function requireRunning(
  name: string,
): Promise<InstanceView & { readonly run: RunRecord }> {
  const view = await requireInstance(name);
  const { run, state, paths } = view;
  if (state === "running" && run) {
    const fault = await findRuntimeFault(view);
    if (fault !== undefined) throw unreachable(name, fault);
    return { ...view, run };
  }
  if (state === "running") {
    throw new GatewayError({
      code: "instance-locked",
      what: `Cannot reach the instance "${name}"`,
      why: `it runs, and "${paths.runFile}" does not say how it is reached (yet)`,
      fix: `wait a moment and try again, or restart it: gateway down --name ${name}`,
    });
  }
  throw new GatewayError({
    code: "instance-stopped",
    what: `Cannot reach the instance "${name}"`,
    why: state === "crashed" ? "its supervisor is gone" : "it is not running",
    fix: `run \`gateway up --name ${name} --detach\` first`,
  });
}

/** Why a running instance cannot be reached from this host, although it runs; undefined when it can. */
export async function findRuntimeFault({ run, paths }: InstanceView): Promise<string | undefined> {
  if (!run?.runtimeDir) return undefined;
  try {
    return await exists(paths.runtimeDir)
      ? undefined
      : `it runs, but the folder of its sockets, "${paths.runtimeDir}", was removed (at a logout?)`;
  } catch {
    return `it runs, but you may not enter the folder of its sockets, "${paths.runtimeDir}"`;
  }
}

function unreachable(name: string, why: string): GatewayError {
  return new GatewayError({
    code: "guest-unreachable",
    what: `Cannot reach the instance "${name}"`,
    why,
    fix: `restart it: gateway down --name ${name} && gateway up --name ${name} --detach; ` +
      "`loginctl enable-linger` or another XDG_RUNTIME_DIR keeps the folder",
  });
}

/** An instance whose lock we hold; disposing releases it and forgets the run. */
export class LockedInstance implements AsyncDisposable {
  readonly paths: InstancePaths;
  readonly #lock: Deno.FsFile;
  #run: RunRecord | undefined;
  #created: boolean;

  private constructor(paths: InstancePaths, lock: Deno.FsFile, created: boolean) {
    this.paths = paths;
    this.#lock = lock;
    this.#created = created;
  }

  /**
   * Takes the instance's lock, making its folder when there is none. What an earlier run left behind
   * (processes, sockets, its record, half-written files) is ended and removed first.
   *
   * @throws GatewayError `instance-running` when somebody else holds the lock.
   */
  static async open(name: string, signal?: AbortSignal): Promise<LockedInstance> {
    const paths = instancePaths(name);
    await ensureRuntimeDir();
    const lock = await lockInstance(paths, signal);
    try {
      await endLastRun(paths);
      const created = await settleFolder(paths);
      await sweepTemporaries(paths.dir);
      await ensurePrivateDir(paths.runtimeDir);
      return new LockedInstance(paths, lock, created);
    } catch (error) {
      releaseLock(lock);
      throw error;
    }
  }

  /** Whether there was no such instance: a start that fails before {@linkcode saveConfig} leaves no trace then. */
  get created(): boolean {
    return this.#created;
  }

  /** What the user chose earlier, undefined for a new instance. */
  async config(): Promise<InstanceConfig | undefined> {
    const text = await readRecord(this.paths.instanceFile);
    return text === undefined ? undefined : parseJson(InstanceFile, text, this.paths.instanceFile);
  }

  /** Keeps what the user chose. */
  async saveConfig(config: InstanceConfig): Promise<void> {
    await writeConfig(this.paths, config);
    if (this.#created) await syncDir(dirname(this.paths.dir));
    await markFinished(this.paths);
    this.#created = false;
  }

  /** The record of this run as last written. */
  get run(): RunRecord | undefined {
    return this.#run;
  }

  /** Changes the record of this run on disk. The first call must bring all fields. */
  async saveRun(change: Partial<RunRecord>): Promise<RunRecord> {
    this.#run = { ...this.#run, ...change } as RunRecord;
    await writeFileAtomic(this.paths.runFile, JSON.stringify(this.#run, null, 2) + "\n");
    return this.#run;
  }

  /** Releases the lock, removes the run's record and sockets, and the folder if it never became an instance. */
  async [Symbol.asyncDispose](): Promise<void> {
    await removeRuntimeDir(this.paths.runtimeDir);
    await Deno.remove(this.paths.runFile).catch(() => {});
    if (this.#created) await removeFolder(this.paths).catch(() => {});
    releaseLock(this.#lock);
  }
}

/** Writes an instance's settings; only whoever holds its lock may. */
export async function writeConfig(paths: InstancePaths, config: InstanceConfig): Promise<void> {
  await writeFileAtomic(paths.instanceFile, JSON.stringify(config, null, 2) + "\n");
}

/** Ends and removes what the run of a dead supervisor left, and its record. */
async function endLastRun(paths: InstancePaths): Promise<void> {
  const left = await readRun(paths);
  if (left !== undefined && left !== "unreadable") {
    await endLeftovers(left);
    // A record is only text: nothing but a folder that a run of this instance makes is removed.
    const { runtimeDir } = left;
    const ours = /\/gateway(-\d+)?$/.test(dirname(runtimeDir));
    if (ours && basename(runtimeDir) === paths.name) await removeRuntimeDir(runtimeDir);
  }
  if (left !== undefined) await sweepMemory();
  await removeRuntimeDir(paths.runtimeDir);
  await Deno.remove(paths.runFile).catch(() => {});
}

/** Removes the sockets of a run, and the folder around them when that was the last run; not through another user's link. */
async function removeRuntimeDir(path: string): Promise<void> {
  const parent = dirname(path);
  if (!await isPrivateDir(parent)) return;
  await Deno.remove(path, { recursive: true }).catch(() => {});
  await removeEmptyDir(parent);
}

/** Ends the processes of a run whose supervisor died. Only exactly those processes: a reused pid is left alone. */
export async function endLeftovers(run: RunRecord): Promise<void> {
  const left = [run.vmm, run.gvproxy].filter((id): id is ProcessId => id !== null && isAlive(id));
  for (const id of left) signalProcess(id.pid, "SIGTERM");
  for (const id of left) {
    await waitFor({
      what: `the end of process ${id.pid}`,
      probe: () => {
        if (!isAlive(id)) return Promise.resolve(true);
        return Promise.resolve(undefined);
      },
      timeoutMs: 3000,
    }).catch(() => signalProcess(id.pid, "SIGKILL"));
  }
}

/**
 * Removes an instance for good, also a damaged one, and first what it has elsewhere. All of it happens under its lock.
 *
 * @throws GatewayError `instance-running` when its lock is held, `instance-unknown` when there is none.
 */
export async function removeInstance(
  name: string,
  removeElsewhere: () => Promise<void> = () => Promise.resolve(),
): Promise<void> {
  const paths = instancePaths(name);
  await ensureRuntimeDir();
  using _lock = ownLock(await lockInstance(paths));
  const known = (await folderContent(paths)).length > 0;
  if (known) {
    await endLastRun(paths);
    await removeElsewhere();
  }
  await removeFolder(paths);
  if (!known) throw await unknownInstance(name);
}
