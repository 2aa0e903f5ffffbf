/**
 * This room shows and checks what is there: status, timeline, doctor, verify, provenance and keys. It also has the
 * commands that reach into a running guest (exec, cp, logs, kubectl). It starts and stops no instance. Read
 * status_text.ts next for the output, guest_commands.ts for exec.
 *
 * What is known of an instance, gathered for `status` and `list`.
 * It must not change anything or print.
 *
 * @module
 */
import { join } from "@std/path";
import { allowedNetText, type RefusedCounts } from "../../net/egress.ts";
import { hostPort } from "../../net/forward.ts";
import { HOST_SERVICE_ADDRESS } from "../../net/host_service.ts";
import { type Arch, guestArch } from "../../vm/base/arch.ts";
import { GatewayError } from "../../vm/base/error.ts";
import { type EventRecord, parseEventLine } from "../../vm/base/event.ts";
import { EventReader } from "../../vm/base/event_reader.ts";
import type { InstancePaths } from "../../vm/base/layout.ts";
import { processFacts } from "../../vm/base/process_table.ts";
import { pause } from "../../vm/base/wait.ts";
import { listDamage } from "../../vm/instance/damage.ts";
import { chainFiles, readDiskChain } from "../../vm/instance/disk_chain.ts";
import {
  type EgressMode,
  findInstance,
  findRuntimeFault,
  type InstanceState,
  type InstanceView,
  type LaterImages,
  listInstances,
  requireInstance,
} from "../../vm/instance/instance.ts";
import { kubeconfigPath } from "../cluster/kubeconfig.ts";
import { clientFilesPath, isActiveClient } from "../credentials/client_files.ts";
import { refusedCounts } from "../run/egress.ts";
import { type ForwardReport, openForwards } from "../run/forwards.ts";
import { buildTimeline, lastRun, renderTimeline, type TimelineRow } from "./timeline.ts";

/** `gateway status --json`: plain JSON, one object. */
export interface StatusReport {
  /** Name of the instance. */
  readonly name: string;
  /** `crashed`: its supervisor died and left a record behind. */
  readonly state: InstanceState;
  /** starting, ready, failed (kept by --keep), stopping; null when it does not run. */
  readonly phase: string | null;
  /** Why it cannot be reached although it runs; null in order. */
  readonly fault: string | null;
  /** URL of the service once it answers. */
  readonly endpoint: string | null;
  /** When `up` began, ISO 8601; null when it does not run. */
  readonly startedAt: string | null;
  /** When the endpoint answered for the first time, ISO 8601. */
  readonly readyAt: string | null;
  /** The VMM and its accelerator, such as "QEMU 7.2.22, TCG (emulation)". */
  readonly vmm: string | null;
  /** The observed fact behind that choice. */
  readonly vmmWhy: string | null;
  /** Where the cluster binary came from. */
  readonly cluster: string | null;
  /** Virtual CPUs. */
  readonly cpus: number;
  /** Guest memory. */
  readonly memoryMiB: number;
  /** The guest's processor. */
  readonly arch: Arch;
  /** What runs in the cluster: "demo", or the folder of another payload. */
  readonly payload: string;
  /** What the payload has to say to people; null when it does not run or says nothing. */
  readonly notes: string | null;
  /** Images that are brought after READY; null where there are none. */
  readonly laterImages: LaterImages | null;
  /** The user's forwards: the open ones while it runs, else those that a start opens. */
  readonly ports: readonly ForwardReport[];
  /** Ports of this host's loopback that the guest may reach; `guest` is address:port in its network. */
  readonly hostServices: readonly { readonly hostPort: number; readonly guest: string }[];
  /** What the guest reaches through this host. */
  readonly egress: EgressReport;
  /** Loopback port that leads to the guest's sshd; null when it does not run. */
  readonly sshPort: number | null;
  /** Loopback port that leads to the cluster's API; null when it is not forwarded. */
  readonly apiPort: number | null;
  /** File with the instance's context, null with --no-kube-api. */
  readonly kubeconfig: string | null;
  /** The folder with ca.crt, tls.crt and tls.key. */
  readonly clientFiles: string;
  /** What runs for it, empty when it does not run. */
  readonly processes: readonly ProcessReport[];
  /** Size as the guest sees it, and blocks taken from the host; null before the first start. */
  readonly stateDisk: { readonly sizeMiB: number; readonly usedMiB: number } | null;
  /** Whether OpenShell's client uses it when no other gateway is named. */
  readonly activeGateway: boolean;
  /** The instance's folder. */
  readonly dir: string;
}

/** What a guest reaches through this host, and what it was refused. */
export interface EgressReport {
  /** internet: public addresses; all: whatever is not always closed. */
  readonly mode: EgressMode;
  /** What is open besides, as `--allow-net` takes it. */
  readonly allowed: readonly string[];
  /** Since its network was started; null when it does not run. */
  readonly refused: RefusedCounts | null;
}

/** One process of a running instance. */
export interface ProcessReport {
  /** Which of the instance's three processes. */
  readonly role: "supervisor" | "vmm" | "gvproxy";
  /** Host process id. */
  readonly pid: number;
  /** Resident memory; null where the host does not tell. */
  readonly residentMiB: number | null;
  /** Numeric id of the user that it runs as; null where the host does not tell. */
  readonly user: number | null;
  /** By what it is confined, such as "seccomp and Landlock 7"; null for nothing of ours. */
  readonly confinement: string | null;
}

/** Gathers the report. @throws GatewayError `instance-unknown`. */
export async function instanceStatus(name: string): Promise<StatusReport> {
  return await statusOf(await requireInstance(name));
}

/** The report of an instance already looked up. */
export async function statusOf(view: InstanceView): Promise<StatusReport> {
  const { config, paths } = view;
  const run = view.state === "running" ? view.run : undefined;
  return {
    name: config.name,
    state: view.state,
    phase: run?.phase ?? null,
    fault: run ? await findRuntimeFault(view) ?? null : null,
    endpoint: run?.endpoint ?? null,
    startedAt: run?.startedAt ?? null,
    readyAt: run?.readyAt ?? null,
    vmm: run?.vmmDescription ?? null,
    vmmWhy: run?.vmmWhy ?? null,
    cluster: run?.cluster ?? null,
    cpus: config.cpus,
    memoryMiB: config.memoryMiB,
    arch: guestArch(config),
    payload: config.payload,
    notes: run?.notes ?? null,
    laterImages: run?.laterImages ?? null,
    ports: await forwardsOf(view),
    hostServices: (config.hostServices ?? []).map(({ hostPort, guestPort }) => ({
      hostPort,
      guest: `${HOST_SERVICE_ADDRESS}:${guestPort}`,
    })),
    egress: {
      mode: config.egress ?? "internet",
      allowed: (config.allowNets ?? []).map(allowedNetText),
      refused: run ? await refusedCounts(paths.runtimeDir) : null,
    },
    sshPort: run?.sshPort ?? null,
    apiPort: run?.apiPort ?? null,
    kubeconfig: config.kubeApi ? kubeconfigPath(config.name) : null,
    clientFiles: join(clientFilesPath(config.name), "mtls"),
    processes: run ? processReports(run) : [],
    stateDisk: await diskUse(paths, config.stateMiB),
    activeGateway: await isActiveClient({ instance: config.name, instanceDir: paths.dir }),
    dir: paths.dir,
  };
}

/** A start opens the forwards one after the other, so what is open counts from READY on. */
async function forwardsOf({ config, paths, state, run }: InstanceView): Promise<ForwardReport[]> {
  const remembered = config.ports.map(({ address, hostPort: port, guestPort }) => ({
    host: hostPort(address, port),
    guestPort,
  }));
  if (state !== "running" || !run || !["ready", "failed"].includes(run.phase)) return remembered;
  const open = await openForwards(paths.runtimeDir, run);
  if (open === undefined) return remembered;
  const place = ({ host }: ForwardReport) => {
    const at = remembered.findIndex((one) => one.host === host);
    return at < 0 ? remembered.length : at;
  };
  return open.toSorted((a, b) => place(a) - place(b));
}

function processReports(run: NonNullable<InstanceView["run"]>): ProcessReport[] {
  const roles = ["supervisor", "vmm", "gvproxy"] as const;
  const reports: ProcessReport[] = [];
  for (const role of roles) {
    const pid = run[role]?.pid;
    if (pid === undefined) continue;
    const confinement = role === "supervisor" ? null : run.confinement?.[role] ?? null;
    const { residentMiB, user } = processFacts(pid);
    reports.push({ role, pid, residentMiB, user, confinement });
  }
  return reports;
}

/** What the disk's files take together; a file that other instances share counts for each. */
async function diskUse(paths: InstancePaths, sizeMiB: number): Promise<StatusReport["stateDisk"]> {
  try {
    let blocks = 0;
    for (const name of chainFiles(await readDiskChain(paths.dir))) {
      blocks += (await Deno.stat(join(paths.dir, name))).blocks ?? 0;
    }
    return { sizeMiB, usedMiB: Math.round((blocks * 512) / (1024 * 1024)) };
  } catch {
    return null;
  }
}

/** The records of the instance's last start. */
export async function readEvents(path: string): Promise<EventRecord[]> {
  const text = await Deno.readTextFile(path).catch(() => "");
  return text.split("\n").map(parseEventLine).filter((record) => record !== undefined);
}

/** `gateway list --json` of an instance that a record of keeps from starting. */
export interface DamagedReport {
  /** Name of the instance. */
  readonly name: string;
  /** Tells it from a {@linkcode StatusReport}. */
  readonly state: "damaged";
  /** What cannot be read. */
  readonly file: string;
  /** The observed fact. */
  readonly why: string;
  /** It was being made or removed when the command was killed. */
  readonly unfinished: boolean;
  /** The instance's folder. */
  readonly dir: string;
}

/** The reports of all instances, by name. */
export async function listStatus(): Promise<(StatusReport | DamagedReport)[]> {
  const damaged = (await listDamage()).map((one) => ({ ...one, state: "damaged" as const }));
  const whole = (await listInstances())
    .filter(({ config }) => !damaged.some(({ name }) => name === config.name));
  const reports = [...damaged, ...await Promise.all(whole.map(statusOf))];
  return reports.sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Host spans and guest marks of the instance's last start, as rows and as text of `width` columns. */
export async function instanceTimeline(
  name: string,
  width: number,
): Promise<{ readonly rows: readonly TimelineRow[]; readonly text: string }> {
  const { paths } = await requireInstance(name);
  const timeline = buildTimeline(lastRun(await readEvents(paths.eventsFile)));
  const text = renderTimeline(timeline, { width, color: false }).join("\n");
  return { rows: timeline.rows, text };
}

/**
 * The script that starts an instance's VM by hand.
 *
 * @throws GatewayError `instance-unknown`, `instance-stopped` when it has not been started yet.
 */
export async function instanceReplay(name: string): Promise<string> {
  const { paths } = await requireInstance(name);
  try {
    return (await Deno.readTextFile(paths.replayFile)).trimEnd();
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new GatewayError({
      code: "instance-stopped",
      what: `Cannot show how to start the VM of "${name}" by hand`,
      why: "this version of gateway has not started it yet",
      fix: `run \`gateway up --name ${name} --detach\` first`,
    });
  }
}

const EVENTS_INTERVAL_MS = 200;

/** Records of an instance's last start, then new ones as they come, until its run or the signal ends. */
export async function* followEvents(
  name: string,
  signal: AbortSignal,
): AsyncGenerator<EventRecord> {
  const { paths } = await requireInstance(name);
  const reader = new EventReader(paths.eventsFile);
  for (;;) {
    // Looked at before the read, so that what the run wrote last is read.
    const over = signal.aborted || (await findInstance(name))?.state !== "running";
    yield* await reader.read();
    if (over) return;
    await pause(EVENTS_INTERVAL_MS, signal).catch(() => {});
  }
}
