/**
 * The records of an instance: what the user chose, what runs now, and who holds its lock.
 * It must not take a lock or change anything.
 *
 * @module
 */
import * as v from "valibot";
import { type Arch, ARCHES } from "../base/arch.ts";
import { asHostError, describeError, GatewayError } from "../base/error.ts";
import { parseJson } from "../base/json_file.ts";
import type { InstancePaths } from "../base/layout.ts";
import {
  Allowed,
  type AllowedNet,
  type EgressMode,
  Forward,
  type HostService,
  type PortForward,
  Service,
} from "../base/ports.ts";
import { isAlive, type ProcessId } from "../base/process_table.ts";

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
  /** The guest's processor; absent for amd64. */
  readonly arch?: Arch;
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
  /** What the guest reaches through this host; absent for "internet". */
  readonly egress?: EgressMode;
  /** What it reaches besides; absent for nothing. */
  readonly allowNets?: readonly AllowedNet[];
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
  /** By what each is confined, for people; absent in a record of a version that did not keep it. */
  readonly confinement?: { readonly vmm: string | null; readonly gvproxy: string | null };
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
  /** Where its sockets are: the environment of who asks may name another folder. */
  readonly runtimeDir: string;
  /** Images that are brought after READY; absent where there are none. */
  readonly laterImages?: LaterImages;
}

/** Images that no start waits for. */
export interface LaterImages {
  /** `failed`: the instance lacks some of them. */
  readonly state: "loading" | "loaded" | "failed";
  /** What pods call them. */
  readonly refs: readonly string[];
  /** Why they are not there. */
  readonly why: string | null;
}

/** The schema of instance.json. */
export const InstanceFile: v.GenericSchema<unknown, InstanceConfig> = v.object({
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
  egress: v.optional(v.picklist(["internet", "all", "none"])),
  allowNets: v.optional(v.array(Allowed)),
  arch: v.optional(v.picklist(ARCHES)),
});

const ProcessRecord = v.object({
  pid: v.number(),
  startTime: v.string(),
  boot: v.optional(v.string()),
});

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
  confinement: v.optional(
    v.object({ vmm: v.nullable(v.string()), gvproxy: v.nullable(v.string()) }),
  ),
  cluster: v.nullable(v.string()),
  ports: v.array(Forward),
  sshPort: v.nullable(v.number()),
  apiPort: v.nullable(v.number()),
  endpoint: v.nullable(v.string()),
  notes: v.optional(v.nullable(v.string()), null),
  // "" in a record of a version that did not keep it.
  runtimeDir: v.optional(v.string(), ""),
  laterImages: v.optional(v.object({
    state: v.picklist(["loading", "loaded", "failed"]),
    refs: v.array(v.string()),
    why: v.nullable(v.string()),
  })),
});

/**
 * The text of a record, undefined when there is none.
 *
 * @throws GatewayError `permission`, `instance-schema` when it cannot be read for another reason.
 */
export async function readRecord(path: string): Promise<string | undefined> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    const host = asHostError(error);
    if (host instanceof GatewayError) throw host;
    throw new GatewayError({
      code: "instance-schema",
      what: `Cannot read "${path}"`,
      why: describeError(error),
      fix: "make it readable, or remove the instance with `gateway rm --force NAME`",
      cause: error,
    });
  }
}

/**
 * The record of the run; undefined when there is none. An empty or cut one says no more than that there was a run, so it
 * stands in nobody's way: whether something runs, the lock tells.
 */
export async function readRun(
  paths: InstancePaths,
): Promise<RunRecord | "unreadable" | undefined> {
  try {
    const text = await readRecord(paths.runFile);
    if (text === undefined) return undefined;
    return parseJson(RunFile, text, paths.runFile);
  } catch {
    return "unreadable";
  }
}

/** Who holds an instance's lock, as it wrote into it; undefined when nobody does, or an older version. */
export async function lockHolder(paths: InstancePaths): Promise<ProcessId | undefined> {
  try {
    const text = await readRecord(paths.lockFile);
    const holder = parseJson(ProcessRecord, text ?? "", paths.lockFile);
    return isAlive(holder) ? holder : undefined;
  } catch {
    return undefined;
  }
}
