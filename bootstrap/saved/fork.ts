/**
 * `gateway fork`: running clones of a running instance, each with an identity and ports of its own. The source is saved
 * once and runs on; the clones share its memory and disk and write only what they change.
 * It must not copy memory or disk, and must refuse before anything starts what this host cannot hold.
 *
 * @module
 */
import { join } from "@std/path";
import { checkDistinct, checkPortsFree } from "../../net/forward.ts";
import { distinctHostServices } from "../../net/host_service.ts";
import { GatewayError, usageError } from "../../vm/base/error.ts";
import type { EventRecord } from "../../vm/base/event.ts";
import { checkInstanceName, exists, type InstancePaths } from "../../vm/base/layout.ts";
import { availableMiB, inMemoryDir, sweepMemory } from "../../vm/base/memory_dir.ts";
import { residentMiB } from "../../vm/base/process_table.ts";
import {
  findInstance,
  type HostService,
  type InstanceConfig,
  listInstances,
  LockedInstance,
  type PortForward,
  removeInstance,
  requireRunning,
} from "../../vm/instance/instance.ts";
import { FORK_PREFIX, readState, snapshotRecord } from "../../vm/instance/saved_state.ts";
import { loadPayload } from "../payload/choose.ts";
import { endpointUrl, serviceForward } from "../payload/service.ts";
import { hostFacts, resolveOptions } from "../plan/options.ts";
import { startDetached } from "../run/detach.ts";
import { askSupervisor } from "../run/requests.ts";
import { type ForeignState, placeState } from "./golden.ts";

/** What the user asked for. */
export interface ForkRequest {
  /** A running instance. */
  readonly source: string;
  /** Names of the clones, at least one. */
  readonly names: readonly string[];
  /** Of the only clone; free ports near the source's for each when empty. */
  readonly ports: readonly PortForward[];
  /** What of this host each clone may reach; the source's are not taken along. */
  readonly hostServices?: readonly HostService[];
  /** As root, install missing host tools. */
  readonly assumeYes?: boolean;
  /** Every record of a clone's start. */
  readonly onEvent: (name: string, record: EventRecord) => void;
  /** Ends it; clones that were not ready are removed. */
  readonly signal: AbortSignal;
}

/** A clone that answers. */
export interface ForkedInstance {
  /** The instance. */
  readonly name: string;
  /** URL of its service. */
  readonly endpoint: string;
}

/** How many clones start at the same time: each takes a core while it changes its identity. */
const AT_ONCE = 2;

/**
 * Clones a running instance and waits until every clone answers.
 *
 * @throws GatewayError `instance-unknown`, `instance-stopped`, `usage`, `port-in-use`, `host-full` when this host cannot
 * hold them, all before anything starts; what the first failing clone says afterwards.
 */
export async function fork(request: ForkRequest): Promise<ForkedInstance[]> {
  const { source, names, signal } = request;
  const { paths, config, run } = await requireRunning(source);
  await checkNames(names);
  const clones = await choosePorts(request, config);
  await checkRoom(names.length, config, run.vmm?.pid, run.vmmDescription ?? "");
  const id = crypto.randomUUID().slice(0, 8);
  const snapshot = `${FORK_PREFIX}${id}`;
  await sweepMemory();
  const ramDir = await inMemoryDir(id, residentMiB(run.vmm?.pid ?? 0) ?? config.memoryMiB);
  try {
    await askSupervisor(paths, { do: "snapshot", name: snapshot, ramDir: ramDir ?? null }, signal);
    const saved = await savedSource(paths, snapshot);
    await placeAll(saved, clones, signal);
    await askSupervisor(paths, { do: "forget", name: snapshot }, signal);
    return await startAll(clones, request);
  } catch (error) {
    await askSupervisor(paths, { do: "forget", name: snapshot }, new AbortController().signal)
      .catch(() => {});
    throw error;
  } finally {
    // Each clone has it mapped by now, or has failed.
    if (ramDir) await Deno.remove(ramDir, { recursive: true }).catch(() => {});
  }
}

async function checkNames(names: readonly string[]): Promise<void> {
  for (const name of names) {
    checkInstanceName(name);
    if (names.indexOf(name) !== names.lastIndexOf(name)) {
      throw usageError(
        `Cannot fork to "${name}" twice`,
        "the names have to differ",
        "name each once",
      );
    }
    if (await findInstance(name)) throw nameTaken(name);
  }
}

function nameTaken(name: string): GatewayError {
  return usageError(
    `Cannot fork to "${name}"`,
    "there is an instance of that name",
    `choose another name, or run \`gateway rm ${name}\` first`,
  );
}

/** The source's settings with ports of each clone's own: the next free ones above the source's. */
async function choosePorts(
  request: ForkRequest,
  source: InstanceConfig,
): Promise<InstanceConfig[]> {
  const taken = new Set(
    (await listInstances()).flatMap(({ config }) => config.ports.map((one) => one.hostPort)),
  );
  const clones: InstanceConfig[] = [];
  for (const name of request.names) {
    const ports: PortForward[] = request.ports.length > 0 ? [...request.ports] : [];
    for (const forward of ports.length > 0 ? [] : source.ports) {
      const hostPort = await nextFree(forward, taken);
      taken.add(hostPort);
      ports.push({ ...forward, hostPort });
    }
    checkDistinct(ports);
    await checkPortsFree(ports);
    clones.push(cloneConfig(source, name, ports, request.hostServices));
  }
  return clones;
}

/** The settings of a clone: its source's, but for what is reached from this host and what it reaches there. */
export function cloneConfig(
  source: InstanceConfig,
  name: string,
  ports: readonly PortForward[],
  hostServices: readonly HostService[] = [],
): InstanceConfig {
  const own = { name, createdAt: new Date().toISOString(), ports };
  return { ...source, ...own, hostServices: distinctHostServices(hostServices) };
}

async function nextFree(forward: PortForward, taken: ReadonlySet<number>): Promise<number> {
  for (let hostPort = forward.hostPort + 1; hostPort <= 65_535; hostPort++) {
    if (taken.has(hostPort)) continue;
    const free = await checkPortsFree([{ ...forward, hostPort }]).then(() => true, () => false);
    if (free) return hostPort;
  }
  throw new GatewayError({
    code: "port-in-use",
    what: `Cannot find a free port above ${forward.hostPort}`,
    why: "every one is taken",
    fix: "name one: gateway fork SRC DST --port 30052:30051",
  });
}

/** What a clone takes of its own before it does anything: the VMM, and what a cluster changes while it becomes its own. */
const CLONE_MIB = 450;
/** An idle emulated cluster takes about a third of a core. */
const EMULATED_PER_CORE = 4;

/** Refuses more clones than this host can hold, before anything starts. */
async function checkRoom(
  count: number,
  config: InstanceConfig,
  vmm: number | undefined,
  vmmDescription: string,
): Promise<void> {
  const refuse = (why: string, fix: string) =>
    new GatewayError({
      code: "host-full",
      what: `Cannot fork "${config.name}" to ${count} ${count === 1 ? "clone" : "clones"}`,
      why,
      fix,
    });
  const available = await availableMiB();
  const needed = count * CLONE_MIB + (residentMiB(vmm ?? 0) ?? 0);
  if (available !== undefined && needed > available) {
    throw refuse(
      `they need about ${needed} MiB of memory and ${available} MiB are available`,
      "stop other instances, or make fewer clones",
    );
  }
  const running = (await listInstances()).filter(({ state }) => state === "running").length;
  const most = navigator.hardwareConcurrency * EMULATED_PER_CORE;
  if (vmmDescription.includes("TCG") && running + count > most) {
    throw refuse(
      `${running} ${running === 1 ? "instance runs" : "instances run"} here already and ` +
        `${navigator.hardwareConcurrency} cores hold ${most} emulated clusters at most`,
      "stop other instances, make fewer clones, or use a host with hardware virtualization",
    );
  }
}

/** What the source was saved as, and where its own identity is. */
async function savedSource(paths: InstancePaths, snapshot: string): Promise<ForeignState> {
  const { name, dir, pkiDir } = paths;
  const k3sYaml = join(dir, "k3s.yaml");
  return {
    dir,
    state: (await readState(snapshotRecord(paths, snapshot)))!,
    from: { name, pkiDir, k3sYaml: await exists(k3sYaml) ? k3sYaml : null },
  };
}

/** Places all clones, or none. */
async function placeAll(
  saved: ForeignState,
  clones: readonly InstanceConfig[],
  signal: AbortSignal,
): Promise<void> {
  const placed: InstanceConfig[] = [];
  try {
    for (const clone of clones) {
      await place(saved, clone, signal);
      placed.push(clone);
    }
  } catch (error) {
    for (const clone of placed) await removeClone(clone).catch(() => {});
    throw error;
  }
}

/**
 * Removes a clone, and not an instance that another command made in its place meanwhile.
 *
 * @throws GatewayError `usage` for such a one, `instance-running`, `instance-unknown`.
 */
export async function removeClone({ name, createdAt }: InstanceConfig): Promise<void> {
  await removeInstance(name, async () => {
    if ((await findInstance(name))?.config.createdAt !== createdAt) throw nameTaken(name);
  });
}

/**
 * Makes the clone an instance that is suspended where the source was saved.
 *
 * @throws GatewayError `usage` when there is one of its name, `instance-running`, `disk-full`.
 */
export async function place(
  saved: ForeignState,
  config: InstanceConfig,
  signal: AbortSignal,
): Promise<void> {
  // Disposing takes the folder away again unless the config was saved, which therefore comes last.
  await using locked = await LockedInstance.open(config.name, signal);
  // Another command may have been first.
  if (!locked.created) throw nameTaken(config.name);
  await placeState(locked.paths, config, saved, signal);
  await locked.saveConfig(config);
}

async function startAll(
  clones: readonly InstanceConfig[],
  request: ForkRequest,
): Promise<ForkedInstance[]> {
  const waiting = [...clones];
  const failures: unknown[] = [];
  const worker = async () => {
    for (let clone = waiting.shift(); clone; clone = waiting.shift()) {
      const { name } = clone;
      try {
        if (failures.length > 0) throw failures[0];
        const options = resolveOptions(
          { name, assumeYes: request.assumeYes === true },
          hostFacts(),
          clone,
        );
        await startDetached(options, {
          onEvent: (record) => request.onEvent(name, record),
          signal: request.signal,
        });
      } catch (error) {
        failures.push(error);
        // A clone that never answered is of no use to anybody.
        await removeClone(clone).catch(() => {});
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  if (failures.length > 0) throw failures[0];
  return await Promise.all(clones.map(async (config) => {
    const payload = await loadPayload(config.payload);
    const endpoint = endpointUrl(payload.service, serviceForward(config, payload));
    return { name: config.name, endpoint };
  }));
}
