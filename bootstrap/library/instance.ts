/**
 * This room is what mod.ts offers to other programs: `up()`, `open()`, `Instance` and `execInFreshVm()`. The command
 * line does not use it, since loading it costs each command time. Read exec.ts and host.ts next.
 *
 * Instances, as the public library offers them.
 *
 * @module
 */
import { parseForward } from "../../net/forward.ts";
import { runSsh } from "../../net/guest_command.ts";
import { scpArgs, sshArgs } from "../../net/ssh.ts";
import type { Arch } from "../../vm/base/arch.ts";
import { GatewayError } from "../../vm/base/error.ts";
import { EventLog, type EventRecord, silentSpan } from "../../vm/base/event.ts";
import { run, spawnChild } from "../../vm/base/process.ts";
import {
  type AllowedNet,
  type EgressMode,
  findInstance,
  type HostService,
  requireRunning,
} from "../../vm/instance/instance.ts";
import {
  type DamagedReport,
  followEvents,
  instanceStatus,
  listStatus,
  type StatusReport,
} from "../inspect/status.ts";
import { connectInstance } from "../run/connection.ts";
import { startDetached } from "../run/detach.ts";
import { down, type DownOutcome } from "../run/down.ts";
import { type ForwardReport, openForwards, portCommand } from "../run/forwards.ts";
import type { SaveReport } from "../run/save.ts";
import { fork } from "../saved/fork.ts";
import {
  createSnapshot,
  removeSnapshot,
  restoreSnapshot,
  snapshotsOf,
  type SnapshotSummary,
  suspend,
} from "../saved/snapshots.ts";
import { decideOptions } from "../start/decide.ts";

/** What {@linkcode up} starts; each setting that is left out is as the instance remembers it, or the default. */
export interface UpSettings {
  /** A DNS label; "default" when left out. */
  readonly name?: string;
  /** Virtual CPUs. */
  readonly cpus?: number;
  /** Guest memory. */
  readonly memoryMiB?: number;
  /** Size of the state disk as the guest sees it; it is sparse and only grows. */
  readonly stateMiB?: number;
  /** What runs in the cluster: the name of a built-in payload, or a folder. */
  readonly payload?: string;
  /** Forwards as `[ADDRESS:]HOSTPORT:GUESTPORT`, which replace the default ones. */
  readonly ports?: readonly string[];
  /** Ports of this host's loopback that the guest may reach; false for none. */
  readonly hostServices?: readonly HostService[] | false;
  /** What the guest reaches through this host. */
  readonly egress?: EgressMode;
  /** What it reaches besides; false for nothing. */
  readonly allowNets?: readonly AllowedNet[] | false;
  /** "auto" takes the first that works on this host. */
  readonly vmm?: "auto" | "qemu" | "libkrun";
  /** The guest's processor; this host's by default. Another one is emulated. */
  readonly arch?: Arch;
  /** The libkrun to use instead of the one that is found, absolute. */
  readonly libkrun?: string;
  /** False: neither forward the cluster's API nor write a kubeconfig. */
  readonly kubeApi?: boolean;
  /** A k3s-compatible binary to use instead of ours. */
  readonly clusterBinary?: string;
  /** Whether the cluster's pulls take this host's proxy. */
  readonly hostProxy?: boolean;
  /** A file with certificates that the cluster's pulls trust, absolute; false for none. */
  readonly hostCa?: string | false;
  /** Boot from the disk even where the instance is suspended. */
  readonly cold?: boolean;
  /** As root, install missing host tools. */
  readonly assumeYes?: boolean;
  /** Ends the start. */
  readonly signal?: AbortSignal;
  /** Gets every record of the start. */
  readonly onEvent?: (record: EventRecord) => void;
}

/**
 * Starts an instance and resolves when it is READY. It runs in the background, in processes of its own; an instance that
 * is suspended resumes. The caller disposes what is returned, which stops the instance.
 *
 * Needs all permissions.
 *
 * @throws GatewayError `usage` for bad settings, `instance-running`, of the step that failed, or the signal's reason.
 */
export async function up(settings: UpSettings = {}): Promise<Instance> {
  const { name = "default", assumeYes = false, ports, signal, onEvent, ...more } = settings;
  const stop = signal ?? new AbortController().signal;
  const log = new EventLog();
  if (onEvent) log.addSink(onEvent);
  const request = { ...more, name, assumeYes, ports: ports?.map(parseForward) };
  const options = await decideOptions(request, log, stop);
  await startDetached(options, { onEvent: onEvent ?? (() => {}), signal: stop });
  return await open(name);
}

/** An instance that runs and is READY. @throws GatewayError `instance-unknown`, `instance-stopped`, `service-not-ready`. */
export async function open(name = "default"): Promise<Instance> {
  const { run: { endpoint } } = await requireRunning(name);
  if (endpoint === null) {
    throw new GatewayError({
      code: "service-not-ready",
      what: `Cannot open the instance "${name}"`,
      why: "it runs, and its service has not answered yet",
      fix: `wait until \`gateway status --name ${name}\` says ready`,
    });
  }
  const { clientFiles, kubeconfig } = await instanceStatus(name);
  return new Instance({ name, endpoint, clientFiles, kubeconfig });
}

/** Every instance of this user, by name, damaged ones too. */
export async function list(): Promise<(StatusReport | DamagedReport)[]> {
  return await listStatus();
}

/** How {@linkcode Instance.exec} and other calls are ended early. */
export interface CallOptions {
  /** Ends the call; a program in the guest loses its connection. */
  readonly signal?: AbortSignal;
}

/** What {@linkcode Instance.cp} copies. */
export interface CopyOptions extends CallOptions {
  /** Folders, too. */
  readonly recursive?: boolean;
}

/** What {@linkcode Instance.fork} gives the clone. */
export interface CloneOptions extends CallOptions {
  /** Forwards as `[ADDRESS:]HOSTPORT:GUESTPORT`; by default free ports near the source's. */
  readonly ports?: readonly string[];
  /** Gets every record of the clone's start. */
  readonly onEvent?: (record: EventRecord) => void;
}

/** What a program in the guest printed. */
export interface GuestOutput {
  /** Its exit code; 255 when the connection was lost. */
  readonly code: number;
  /** As UTF-8. */
  readonly stdout: string;
  /** As UTF-8. */
  readonly stderr: string;
}

/** A program that runs in the guest. */
export interface GuestProcess {
  /** The caller closes it. */
  readonly stdin: WritableStream<Uint8Array>;
  /** What it prints. */
  readonly stdout: ReadableStream<Uint8Array>;
  /** What it prints as errors. */
  readonly stderr: ReadableStream<Uint8Array>;
  /** Resolves with the exit code, 255 when the connection was lost; never rejects. */
  readonly code: Promise<number>;
}

const NEVER = new AbortController().signal;

/** One instance. Disposing stops it as {@linkcode Instance.down} does; its disk stays. */
export class Instance implements AsyncDisposable {
  /** The snapshots of this instance. */
  readonly snapshot: Snapshots;
  /** The forwards of this instance. */
  readonly ports: Ports;

  /** A DNS label. */
  readonly name: string;
  /** URL of the payload's service in this run. */
  readonly endpoint: string;
  /** The folder with ca.crt, tls.crt and tls.key of a client. */
  readonly clientFiles: string;
  /** The file with the instance's kubeconfig; null where its API is not forwarded. */
  readonly kubeconfig: string | null;

  /** Use {@linkcode up} or {@linkcode open}. */
  constructor(
    facts: Pick<Instance, "name" | "endpoint" | "clientFiles" | "kubeconfig">,
  ) {
    this.name = facts.name;
    this.endpoint = facts.endpoint;
    this.clientFiles = facts.clientFiles;
    this.kubeconfig = facts.kubeconfig;
    this.snapshot = new Snapshots(facts.name);
    this.ports = new Ports(facts.name);
  }

  /** Its state, sizes, forwards and processes. @throws GatewayError `instance-unknown`. */
  async status(): Promise<StatusReport> {
    return await instanceStatus(this.name);
  }

  /**
   * Starts a program in the guest, as root, without a terminal.
   *
   * @throws GatewayError `instance-stopped`, `tool-missing` without ssh.
   */
  async exec(words: readonly [string, ...string[]]): Promise<GuestProcess> {
    const child = spawnChild("ssh", {
      args: await this.#ssh(words),
      ...{ stdin: "piped", stdout: "piped", stderr: "piped" } as const,
    });
    const { stdin, stdout, stderr } = child;
    const code = child.exited.then(({ code }) => code);
    return { stdin: stdin!, stdout: stdout!, stderr: stderr!, code };
  }

  /**
   * Runs a program in the guest to its end and collects what it prints, 4 MiB at most.
   *
   * @throws GatewayError `instance-stopped`, `tool-missing`, or the signal's reason.
   */
  async output(
    words: readonly [string, ...string[]],
    options: CallOptions = {},
  ): Promise<GuestOutput> {
    const args = await this.#ssh(words);
    const { code, stdout, stderr } = await runSsh({ args, signal: options.signal, check: false });
    return { code, stdout, stderr };
  }

  async #ssh(words: readonly string[]): Promise<string[]> {
    const { config } = await connectInstance(this.name);
    return sshArgs(config, this.name, words);
  }

  /**
   * Copies a file between host and guest; the guest's side is written `guest:PATH`.
   *
   * @throws GatewayError `instance-stopped`, `process-failed` with scp's words, or the signal's reason.
   */
  async cp(source: string, destination: string, options: CopyOptions = {}): Promise<void> {
    const { config } = await connectInstance(this.name);
    const [from, to] = [source, destination].map((side) =>
      side.startsWith("guest:") ? this.name + side.slice("guest".length) : side
    );
    const args = scpArgs(config, from!, to!, options);
    await run("scp", { args, signal: options.signal });
  }

  /**
   * Clones this running instance; resolves when the clone is READY.
   *
   * @throws GatewayError `usage`, `port-in-use`, `host-full`, or what the clone's start says.
   */
  async fork(name: string, options: CloneOptions = {}): Promise<Instance> {
    const { ports = [], onEvent, signal = NEVER } = options;
    await fork({
      ...{ source: this.name, names: [name], ports: ports.map(parseForward), signal },
      onEvent: (_, record) => onEvent?.(record),
    });
    return await open(name);
  }

  /** Keeps memory and devices on disk; nothing runs until {@linkcode up} resumes it. @throws as `suspend`. */
  async suspend(options: CallOptions = {}): Promise<void> {
    await suspend(this.name, options.signal ?? NEVER);
  }

  /** Records of the last start, then new ones as they come, until the run or the signal ends. */
  async *events(options: CallOptions = {}): AsyncGenerator<EventRecord> {
    yield* followEvents(this.name, options.signal ?? NEVER);
  }

  /** Powers the guest off cleanly. @throws GatewayError `instance-unknown`. */
  async down(options: CallOptions = {}): Promise<DownOutcome> {
    return await down(this.name, { span: silentSpan(), signal: options.signal ?? NEVER });
  }

  /** Stops it, unless it was removed. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (await findInstance(this.name).catch(() => undefined)) await this.down().catch(() => {});
  }
}

/** The snapshots of an instance. */
export class Snapshots {
  /** `instance` is its name. */
  constructor(private readonly instance: string) {}

  /** Keeps memory, devices and disk under a name; the guest stands still for a moment. @throws as `createSnapshot`. */
  async create(name: string, options: CallOptions = {}): Promise<SaveReport> {
    return await createSnapshot(this.instance, name, options.signal ?? NEVER);
  }

  /** All of them, oldest first. */
  async list(): Promise<SnapshotSummary[]> {
    return await snapshotsOf(this.instance);
  }

  /** Puts the instance back; it is suspended then, and {@linkcode up} resumes it. @throws as `restoreSnapshot`. */
  async restore(name: string, options: CallOptions = {}): Promise<void> {
    await restoreSnapshot(this.instance, name, options.signal ?? NEVER);
  }

  /** Removes it with the files that only it needs. @throws as `removeSnapshot`. */
  async remove(name: string, options: CallOptions = {}): Promise<void> {
    await removeSnapshot(this.instance, name, options.signal ?? NEVER);
  }
}

/** The forwards of a running instance; they last until it stops. */
export class Ports {
  /** `instance` is its name. */
  constructor(private readonly instance: string) {}

  /** Opens `[ADDRESS:]HOSTPORT:GUESTPORT`. @throws GatewayError `usage`, `port-in-use`, `instance-stopped`. */
  async add(forward: string, options: CallOptions = {}): Promise<void> {
    await portCommand(this.instance, "add", forward, options.signal ?? NEVER);
  }

  /** Closes it. @throws GatewayError `usage` when it is not open, `instance-stopped`. */
  async remove(forward: string, options: CallOptions = {}): Promise<void> {
    await portCommand(this.instance, "remove", forward, options.signal ?? NEVER);
  }

  /** Those that are open, without gateway's own. @throws GatewayError `instance-stopped`. */
  async list(): Promise<readonly ForwardReport[]> {
    const { paths, run } = await requireRunning(this.instance);
    return await openForwards(paths.runtimeDir, run) ?? [];
  }
}
