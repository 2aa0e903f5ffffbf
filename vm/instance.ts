/**
 * The instance store: one folder per instance, one lock per running instance, and the record of what runs.
 * It must not start or talk to a VM.
 *
 * @module
 */
import { join } from "@std/path";
import * as v from "valibot";
import { GatewayError } from "./error.ts";
import {
  ensurePrivateDir,
  exists,
  type InstancePaths,
  instancePaths,
  instancesDir,
  sweepTemporaries,
  writeFileAtomic,
} from "./layout.ts";
import { sweepMemory } from "./memory_dir.ts";
import { Forward, type HostService, type PortForward, Service } from "./ports.ts";
import { isAlive, type ProcessId, signalProcess } from "./process.ts";
import { parseJson } from "./spec.ts";
import { isSuspended } from "./saved_state.ts";
import { pause, waitFor } from "./wait.ts";

export type { HostService, PortForward } from "./ports.ts";

/** What the user chose for an instance; kept between starts. */
export interface InstanceConfig {
  /** Of instance.json's format. */
  readonly schemaVersion: 1;
  /** A DNS label, also the folder's name. */
  readonly name: string;
  /** ISO 8601. */
  readonly createdAt: string;
  /** Virtual CPUs. */
  readonly cpus: number;
  /** Guest memory. */
  readonly memoryMiB: number;
  /** Size of the state disk as the guest sees it; it only grows. */
  readonly stateMiB: number;
  /** Opened on every start. */
  readonly ports: readonly PortForward[];
  /** `auto` chooses anew on every start. */
  readonly vmm: "auto" | "qemu" | "libkrun";
  /** Whether the cluster's API is forwarded and a kubeconfig written. */
  readonly kubeApi: boolean;
  /** What runs in the cluster: a built-in payload's name, or a folder's absolute path. */
  readonly payload: string;
  /** Digest of the payload's content at the last READY; null before the first one. */
  readonly payloadDigest: string | null;
  /** A cluster binary of the user's own; null for ours. */
  readonly clusterBinary: string | null;
  /** What the cluster's pulls take from this host; absent for nothing. */
  readonly network?: {
    /** Its proxy variables, as they are at each start. */
    readonly hostProxy: boolean;
    /** A file with certificates of authorities, absolute; null for none. */
    readonly hostCa: string | null;
  };
  /** What of this host the guest may reach; absent for nothing. */
  readonly hostServices?: readonly HostService[];
}

/** What runs now; removed when the run ends, so one whose supervisor is gone means a crash. */
export interface RunRecord {
  /** Of run.json's format. */
  readonly schemaVersion: 1;
  /** `ready` once the endpoint answered; `failed` when it never did and the VM is kept to look inside. */
  readonly phase: "starting" | "ready" | "failed" | "stopping";
  /** ISO 8601. */
  readonly startedAt: string;
  /** ISO 8601; null before. */
  readonly readyAt: string | null;
  /** The process that owns the others and holds the lock. */
  readonly supervisor: ProcessId;
  /** Null before it was started. */
  readonly vmm: ProcessId | null;
  /** Null before it was started. */
  readonly gvproxy: ProcessId | null;
  /** Such as "QEMU 7.2.22, TCG (emulation)". */
  readonly vmmDescription: string | null;
  /** The observed fact behind that choice. */
  readonly vmmWhy: string | null;
  /** Where the cluster binary came from. */
  readonly cluster: string | null;
  /** Forwards this run was started with. */
  readonly ports: readonly PortForward[];
  /** Loopback port of the guest's sshd. */
  readonly sshPort: number | null;
  /** Loopback port of the cluster's API. */
  readonly apiPort: number | null;
  /** URL of the service once it answered. */
  readonly endpoint: string | null;
  /** What the payload has to say to people. */
  readonly notes: string | null;
}

const InstanceFile: v.GenericSchema<unknown, InstanceConfig> = v.object({
  schemaVersion: v.literal(1),
  name: v.string(),
  createdAt: v.string(),
  cpus: v.number(),
  memoryMiB: v.number(),
  stateMiB: v.number(),
  ports: v.array(Forward),
  vmm: v.picklist(["auto", "qemu", "libkrun"]),
  kubeApi: v.boolean(),
  payload: v.string(),
  // Later than the first version: an older record lacks these.
  payloadDigest: v.optional(v.nullable(v.string()), null),
  clusterBinary: v.optional(v.nullable(v.string()), null),
  network: v.optional(v.object({ hostProxy: v.boolean(), hostCa: v.nullable(v.string()) })),
  hostServices: v.optional(v.array(Service)),
});

const ProcessRecord = v.object({ pid: v.number(), startTime: v.string() });

const RunFile: v.GenericSchema<unknown, RunRecord> = v.object({
  schemaVersion: v.literal(1),
  phase: v.picklist(["starting", "ready", "failed", "stopping"]),
  startedAt: v.string(),
  readyAt: v.nullable(v.string()),
  supervisor: ProcessRecord,
  vmm: v.nullable(ProcessRecord),
  gvproxy: v.nullable(ProcessRecord),
  vmmDescription: v.nullable(v.string()),
  vmmWhy: v.nullable(v.string()),
  cluster: v.nullable(v.string()),
  ports: v.array(Forward),
  sshPort: v.nullable(v.number()),
  apiPort: v.nullable(v.number()),
  endpoint: v.nullable(v.string()),
  notes: v.optional(v.nullable(v.string()), null),
});

/**
 * How an instance is. `suspended`: its memory is kept and `up` goes on from it. `crashed`: a record of a run is there, its
 * supervisor is not.
 */
export type InstanceState = "running" | "stopped" | "crashed" | "suspended";

/** An instance seen from outside, without its lock. */
export interface InstanceView {
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
      if (!entry.isDirectory) continue;
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
  const text = await readIfThere(paths.instanceFile);
  if (text === undefined) return undefined;
  const config = parseJson(InstanceFile, text, paths.instanceFile);
  const run = await readRun(paths);
  const locked = await isLocked(paths);
  return { paths, config, run, state: await stateOf(paths, locked, run) };
}

async function stateOf(
  paths: InstancePaths,
  locked: boolean,
  run: RunRecord | undefined,
): Promise<InstanceState> {
  if (locked) return "running";
  if (run) return "crashed";
  return await isSuspended(paths) ? "suspended" : "stopped";
}

/** The instance. @throws GatewayError `instance-unknown` naming those that exist. */
export async function requireInstance(name: string): Promise<InstanceView> {
  const view = await findInstance(name);
  if (view) return view;
  const names = (await listInstances()).map((other) => other.config.name);
  throw new GatewayError({
    code: "instance-unknown",
    what: `Cannot find the instance "${name}"`,
    why: names.length === 0 ? "there are no instances yet" : `there is only ${names.join(", ")}`,
    fix: `run \`gateway up --name ${name}\` to make it, or \`gateway list\``,
  });
}

/** The running instance and its record. @throws GatewayError `instance-unknown`, `instance-stopped`. */
export async function requireRunning(
  name: string,
): Promise<InstanceView & { readonly run: RunRecord }> {
  const view = await requireInstance(name);
  if (view.state === "running" && view.run) return { ...view, run: view.run };
  throw new GatewayError({
    code: "instance-stopped",
    what: `Cannot reach the instance "${name}"`,
    why: view.state === "crashed" ? "its supervisor is gone" : "it is not running",
    fix: `run \`gateway up --name ${name} --detach\` first`,
  });
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** The record of the run, undefined when nothing was left. */
export async function readRun(paths: InstancePaths): Promise<RunRecord | undefined> {
  const text = await readIfThere(paths.runFile);
  return text === undefined ? undefined : parseJson(RunFile, text, paths.runFile);
}

async function isLocked(paths: InstancePaths): Promise<boolean> {
  let file: Deno.FsFile;
  try {
    file = await Deno.open(paths.lockFile);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
  using held = file;
  // A shared lock: many may look at once, and an `up` that meets one tries again.
  return !await held.tryLock(false);
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
    const created = !await exists(paths.dir);
    await ensurePrivateDir(instancesDir());
    await ensurePrivateDir(paths.dir);
    const lock = await Deno.open(paths.lockFile, { create: true, write: true, mode: 0o600 });
    try {
      await takeLock(lock, paths, signal);
      const left = await readRun(paths).catch(() => undefined);
      if (left) {
        await endLeftovers(left);
        await sweepMemory();
      }
      await Deno.remove(paths.runtimeDir, { recursive: true }).catch(() => {});
      await Deno.remove(paths.runFile).catch(() => {});
      await sweepTemporaries(paths.dir);
      await ensurePrivateDir(join(paths.runtimeDir, ".."));
      await ensurePrivateDir(paths.runtimeDir);
      return new LockedInstance(paths, lock, created);
    } catch (error) {
      lock.close();
      throw error;
    }
  }

  /** Whether open() made the folder: a start that fails before {@linkcode saveConfig} leaves no trace then. */
  get created(): boolean {
    return this.#created;
  }

  /** What the user chose earlier, undefined for a new instance. */
  async config(): Promise<InstanceConfig | undefined> {
    const text = await readIfThere(this.paths.instanceFile);
    return text === undefined ? undefined : parseJson(InstanceFile, text, this.paths.instanceFile);
  }

  /** Keeps what the user chose. */
  async saveConfig(config: InstanceConfig): Promise<void> {
    await writeConfig(this.paths, config);
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
    await Deno.remove(this.paths.runtimeDir, { recursive: true }).catch(() => {});
    await Deno.remove(this.paths.runFile).catch(() => {});
    if (this.#created) await Deno.remove(this.paths.dir, { recursive: true }).catch(() => {});
    this.#lock.close();
    // Folders that only we made and that hold nothing go too; others refuse to be removed.
    for (const dir of [join(this.paths.dir, ".."), join(this.paths.runtimeDir, "..")]) {
      await Deno.remove(dir).catch(() => {});
    }
  }
}

/** Writes an instance's settings; only whoever holds its lock may. */
export async function writeConfig(paths: InstancePaths, config: InstanceConfig): Promise<void> {
  await writeFileAtomic(paths.instanceFile, JSON.stringify(config, null, 2) + "\n");
}

async function takeLock(
  lock: Deno.FsFile,
  paths: InstancePaths,
  signal?: AbortSignal,
): Promise<void> {
  // `status` holds a shared lock for a moment; ten tries outlast it.
  for (let attempt = 0; attempt < 10; attempt++) {
    if (await lock.tryLock(true)) return;
    await pause(50, signal);
  }
  const run = await readRun(paths).catch(() => undefined);
  throw new GatewayError({
    code: "instance-running",
    what: `Cannot start the instance "${paths.name}"`,
    why: run ? `it is running already (supervisor ${run.supervisor.pid})` : "it is locked",
    fix: `use it, stop it with \`gateway down --name ${paths.name}\`, or choose another --name`,
  });
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
 * Removes an instance's folder for good. The caller has made sure that it does not run.
 *
 * @throws GatewayError `instance-running` when its lock is held.
 */
export async function removeInstance(name: string): Promise<void> {
  const paths = instancePaths(name);
  {
    await using _locked = await LockedInstance.open(name);
    await Deno.remove(paths.instanceFile).catch(() => {});
  }
  await Deno.remove(paths.dir, { recursive: true });
}
