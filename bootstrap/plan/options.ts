/**
 * What the user asked for, checked against this host and merged with what the instance remembers.
 * It must not create, start or look up anything: bad input has to fail before a trace is left.
 *
 * @module
 */
import { allowedNetText } from "../../net/egress.ts";
import { checkDistinct, LOOPBACK } from "../../net/forward.ts";
import { distinctHostServices } from "../../net/host_service.ts";
import { type Arch, ARCHES, guestArch, hostArch } from "../../vm/base/arch.ts";
import { type GatewayError, usageError } from "../../vm/base/error.ts";
import { checkInstanceName } from "../../vm/base/layout.ts";
import { EGRESS_MODES } from "../../vm/base/ports.ts";
import type {
  AllowedNet,
  HostService,
  InstanceConfig,
  PortForward,
} from "../../vm/instance/instance.ts";
import type { VmmChoice } from "../../vm/machine/vmm.ts";
import { DEMO, payloadSource, payloadWords } from "../payload/choose.ts";
import type { Payload } from "../payload/payload.ts";

/** `--net`. */
export type NetChoice = "gvproxy" | "tsi" | "none";

/** Every value of `--vmm`. */
export const VMM_CHOICES: readonly VmmChoice[] = ["auto", "qemu", "libkrun"];
/** Every value of `--net`. */
export const NET_CHOICES: readonly NetChoice[] = ["gvproxy", "tsi", "none"];
export { EGRESS_MODES };

/** The command line of `up`, parsed but not checked; undefined where the user said nothing. */
export interface UpRequest {
  /** Instance name, a DNS label. */
  readonly name: string;
  /** Virtual CPUs. */
  readonly cpus?: number;
  /** Guest memory. */
  readonly memoryMiB?: number;
  /** Size of the state disk as the guest sees it; it is sparse. */
  readonly stateMiB?: number;
  /** Replaces the default list when it has an entry. */
  readonly ports?: readonly PortForward[];
  /** Unchecked {@linkcode NetChoice}. */
  readonly net?: string;
  /** Unchecked {@linkcode VmmChoice}. */
  readonly vmm?: string;
  /** Unchecked {@linkcode Arch}, in either spelling. */
  readonly arch?: string;
  /** `--libkrun`. */
  readonly libkrun?: string;
  /** What runs in the cluster: the name of a built-in payload, or a folder. */
  readonly payload?: string;
  /** `--keep`. */
  readonly keep?: boolean;
  /** False: neither forward the cluster's API nor write a kubeconfig. */
  readonly kubeApi?: boolean;
  /** As root, install missing host tools. */
  readonly assumeYes: boolean;
  /** A cluster binary of the user's. */
  readonly clusterBinary?: string;
  /** The cluster's pulls take this host's proxy. */
  readonly hostProxy?: boolean;
  /** A file with certificates that the cluster's pulls trust, absolute; false: none any more. */
  readonly hostCa?: string | false;
  /** Replaces what the instance remembers; false: none any more. */
  readonly hostServices?: readonly HostService[] | false;
  /** Unchecked `--egress`. */
  readonly egress?: string;
  /** Replaces what the instance remembers; false: none any more. */
  readonly allowNets?: readonly AllowedNet[] | false;
  /** Set: no cluster, this command is the guest's main process. */
  readonly exec?: readonly string[];
  /** `--cold`. */
  readonly cold?: boolean;
  /** `--detach`. */
  readonly detach?: boolean;
}

/** What this host has. */
export interface HostFacts {
  /** Logical CPUs, the most a VM may have. */
  readonly cpus: number;
  /** Installed memory, the most a VM may have. */
  readonly memoryMiB: number;
}

/** Checked options with every default applied. */
export interface UpOptions {
  /** What the instance remembers once it has started. */
  readonly config: InstanceConfig;
  /** How the VM is connected. */
  readonly net: NetChoice;
  /** A libkrun of the user's; undefined for the one that is found. */
  readonly libkrun: string | undefined;
  /** As root, install missing host tools. */
  readonly assumeYes: boolean;
  /** A k3s-compatible binary of the user's, undefined for ours. */
  readonly clusterBinary: string | undefined;
  /** The program and its arguments of a VM without a cluster. */
  readonly exec: readonly string[] | undefined;
  /** Do not go on from a suspended state. */
  readonly cold: boolean;
  /** Why a new instance runs what it runs, where nothing was said and it is not OpenShell. */
  readonly payloadWhy?: string;
  /** Leave the VM running when its payload does not answer. */
  readonly keep?: boolean;
}

/** Ports forwarded when the user names none. */
export const DEFAULT_PORTS: readonly PortForward[] = [
  { address: "127.0.0.1", hostPort: 30051, guestPort: 30051 },
];

/** Sizes when the user names none (facts of OpenShell's own defaults), capped by the host. */
const CLUSTER_DEFAULTS = { cpus: 4, memoryMiB: 8192, stateMiB: 16_384 };
const EXEC_DEFAULTS = { cpus: 2, memoryMiB: 2048, stateMiB: 0 };
const MINIMUM_MIB = { cluster: 1536, exec: 128 };

/**
 * Checks a request. `stored` is what the instance was last started with: flags win over it, it wins over defaults.
 * `payload` is the one that will run, where its file was read already: its port is forwarded by default.
 *
 * @throws GatewayError `usage` for the first thing that is wrong.
 */
export function resolveOptions(
  request: UpRequest,
  host: HostFacts,
  stored?: InstanceConfig,
  payload?: Pick<Payload, "service">,
): UpOptions {
  checkInstanceName(request.name);
  const mode = request.exec ? "exec" : "cluster";
  const base = request.exec ? EXEC_DEFAULTS : CLUSTER_DEFAULTS;
  const net = pick("--net", request.net ?? (request.exec ? "none" : "gvproxy"), NET_CHOICES);
  checkExecOnly(request);
  checkGvproxyOnly(request, net);
  const vmm = pick("--vmm", request.vmm ?? stored?.vmm ?? "auto", VMM_CHOICES);
  checkNet(net, vmm, mode);
  checkLibkrun(request.libkrun, vmm);
  const arch = checkArch(request.arch, stored, vmm);
  const cpus = request.cpus ?? stored?.cpus ?? Math.min(base.cpus, host.cpus);
  const memoryMiB = request.memoryMiB ?? stored?.memoryMiB ??
    Math.min(base.memoryMiB, Math.max(MINIMUM_MIB[mode], Math.floor(host.memoryMiB / 2)));
  checkSizes(cpus, memoryMiB, host, MINIMUM_MIB[mode], mode);
  const ports = request.ports?.length
    ? [...request.ports]
    : stored?.ports ?? defaultPorts(payload?.service.nodePort);
  checkDistinct(ports);
  const clusterBinary = request.clusterBinary ?? stored?.clusterBinary ?? null;
  return {
    config: {
      schemaVersion: 1,
      name: request.name,
      createdAt: stored?.createdAt ?? new Date().toISOString(),
      cpus,
      memoryMiB,
      stateMiB: checkDisk(request.stateMiB, stored?.stateMiB, base.stateMiB),
      ports,
      vmm,
      kubeApi: request.kubeApi ?? stored?.kubeApi ?? true,
      clusterBinary,
      payload: checkPayload(request.payload, stored?.payload),
      payloadDigest: stored?.payloadDigest ?? null,
      ...networkOf(request, stored),
      ...hostServicesOf(request, stored),
      ...egressOf(request, stored),
      ...(arch !== "amd64" && { arch }),
    },
    net,
    libkrun: request.libkrun,
    assumeYes: request.assumeYes,
    clusterBinary: clusterBinary ?? undefined,
    exec: request.exec,
    cold: request.cold === true,
    ...(request.keep ? { keep: true } : {}),
  };
}

function networkOf(
  request: UpRequest,
  stored: InstanceConfig | undefined,
): Pick<InstanceConfig, "network"> {
  const before = stored?.network;
  const hostProxy = request.hostProxy ?? before?.hostProxy ?? false;
  const hostCa = request.hostCa === false ? null : request.hostCa ?? before?.hostCa ?? null;
  return hostProxy || hostCa !== null ? { network: { hostProxy, hostCa } } : {};
}

function hostServicesOf(
  request: UpRequest,
  stored: InstanceConfig | undefined,
): Pick<InstanceConfig, "hostServices"> {
  const asked = request.hostServices === false ? [] : request.hostServices;
  const hostServices = distinctHostServices(asked ?? stored?.hostServices ?? []);
  return hostServices.length > 0 ? { hostServices } : {};
}

function egressOf(
  request: UpRequest,
  stored: InstanceConfig | undefined,
): Pick<InstanceConfig, "egress" | "allowNets"> {
  const [usual] = EGRESS_MODES;
  const egress = pick("--egress", request.egress ?? stored?.egress ?? usual, EGRESS_MODES);
  const asked = request.allowNets === false ? [] : request.allowNets;
  const all = (asked ?? stored?.allowNets ?? []).map((net) => [allowedNetText(net), net] as const);
  const allowNets = [...new Map(all).values()];
  return { ...(egress !== usual && { egress }), ...(allowNets.length > 0 && { allowNets }) };
}

/** What only gvproxy can do. */
function checkGvproxyOnly(request: UpRequest, net: NetChoice): void {
  if (net === "gvproxy") return;
  const given = (list: UpRequest["hostServices"] | UpRequest["allowNets"]) =>
    list && list.length > 0;
  const flag = request.egress !== undefined
    ? "--egress"
    : given(request.allowNets)
    ? "--allow-net"
    : given(request.hostServices)
    ? "--host-service"
    : undefined;
  if (flag === undefined) return;
  throw usageError(
    `Cannot use ${flag} with --net "${net}"`,
    flag === "--host-service"
      ? "only gvproxy opens ports of this host to a guest"
      : "only gvproxy judges what a guest reaches",
    "add --net gvproxy",
  );
}

/** The payload's own port of the node, from the same port of the host. */
function defaultPorts(nodePort: number | undefined): PortForward[] {
  if (nodePort === undefined) return [...DEFAULT_PORTS];
  return [{ address: LOOPBACK, hostPort: nodePort, guestPort: nodePort }];
}

/** What runs in an instance is part of it: its disk holds the objects and data of one payload. */
function checkPayload(asked: string | undefined, stored: string | undefined): string {
  const wanted = payloadSource(asked ?? stored ?? DEMO);
  if (stored === undefined || wanted === stored) return wanted;
  throw usageError(
    `Cannot use --payload "${asked}"`,
    `the instance runs ${payloadWords(stored)}, and payloads are not exchanged`,
    "leave --payload out, or make a new instance with another --name",
  );
}

function pick<T extends string>(flag: string, value: string, allowed: readonly T[]): T {
  const found = allowed.find((choice) => choice === value);
  if (found !== undefined) return found;
  throw usageError(
    `Cannot use ${flag} "${value}"`,
    `the choices are ${allowed.join(", ")}`,
    `pass ${flag} ${allowed[0]}`,
  );
}

/** An architecture in our word or the kernel's. @throws GatewayError `usage`. */
export function parseArch(text: string): Arch {
  const word = text === "x86_64" ? "amd64" : text === "aarch64" ? "arm64" : text;
  return pick("--arch", word, ARCHES);
}

/** The programs on an instance's disk are those of one processor. */
function checkArch(
  asked: string | undefined,
  stored: InstanceConfig | undefined,
  vmm: VmmChoice,
): Arch {
  const before = guestArch(stored);
  const arch = asked === undefined ? before : parseArch(asked);
  if (stored && arch !== before) {
    throw usageError(
      `Cannot use --arch "${asked}"`,
      `the instance is an ${before} guest, and its disk has programs for that processor`,
      "leave --arch out, or make a new instance with another --name",
    );
  }
  if (vmm === "libkrun" && arch !== hostArch()) {
    throw usageError(
      `Cannot use --arch "${asked ?? arch}" with --vmm "libkrun"`,
      `libkrun runs guests of this host's own processor, ${hostArch()}`,
      "leave --vmm out: QEMU emulates the other one",
    );
  }
  return arch;
}

function checkExecOnly(request: UpRequest): void {
  if (!request.exec) return;
  const flag = request.ports?.length ? "--port" : request.detach ? "--detach" : undefined;
  if (flag === undefined) return;
  throw usageError(
    `Cannot use ${flag} with --exec`,
    "the VM lasts as long as its command, and nothing in it is forwarded",
    `leave ${flag} out, or start an instance with \`gateway up\` and use \`gateway exec\``,
  );
}

function checkLibkrun(path: string | undefined, vmm: VmmChoice): void {
  if (path === undefined || (vmm !== "qemu" && path.startsWith("/"))) return;
  throw usageError(
    `Cannot use --libkrun "${path}"`,
    vmm === "qemu" ? "the VMM is QEMU" : "it is not an absolute path",
    vmm === "qemu" ? "leave it out, or add --vmm libkrun" : "name the file from the root on",
  );
}

const DISK_MINIMUM_MIB = 1024;

function checkDisk(
  asked: number | undefined,
  stored: number | undefined,
  fallback: number,
): number {
  if (asked === undefined || asked === stored) return stored ?? fallback;
  if (stored !== undefined) {
    throw usageError(
      `Cannot use --disk ${asked}`,
      `the instance has a state disk of ${stored} MiB, and disks are not resized`,
      "leave --disk out, or make a new instance with another --name",
    );
  }
  if (Number.isInteger(asked) && asked >= DISK_MINIMUM_MIB) return asked;
  throw usageError(
    `Cannot use --disk ${asked}`,
    `a state disk needs at least ${DISK_MINIMUM_MIB} MiB`,
    "pass --disk 16384, or leave it out; only what is used takes space",
  );
}

function checkNet(net: NetChoice, vmm: VmmChoice, mode: "cluster" | "exec"): void {
  if (net === "tsi" && vmm !== "libkrun") {
    throw usageError(
      `Cannot use --net "tsi"`,
      "only libkrun has it",
      "pass --net gvproxy",
    );
  }
  if (mode === "cluster" && net !== "gvproxy") {
    throw usageError(
      `Cannot start a cluster with --net "${net}"`,
      "its endpoint is reached through gvproxy",
      "leave --net out, or add --exec for a VM without a cluster",
    );
  }
}

function checkSizes(
  cpus: number,
  memoryMiB: number,
  host: HostFacts,
  minimumMiB: number,
  mode: string,
): void {
  const bad = (flag: string, value: number, why: string, fix: string): GatewayError =>
    usageError(`Cannot use ${flag} ${value}`, why, fix);
  if (!Number.isInteger(cpus) || cpus < 1) {
    throw bad("--cpus", cpus, "a VM needs at least 1", "pass --cpus 2");
  }
  if (cpus > host.cpus) {
    throw bad("--cpus", cpus, `this host has ${host.cpus}`, `pass --cpus ${host.cpus} or fewer`);
  }
  if (!Number.isInteger(memoryMiB) || memoryMiB < minimumMiB) {
    const why = `${mode === "exec" ? "a VM" : "a cluster"} needs at least ${minimumMiB} MiB`;
    throw bad("--memory", memoryMiB, why, `pass --memory ${Math.max(minimumMiB, 2048)}`);
  }
  if (memoryMiB > host.memoryMiB) {
    const why = `this host has ${host.memoryMiB} MiB`;
    throw bad("--memory", memoryMiB, why, `pass --memory ${Math.floor(host.memoryMiB / 2)}`);
  }
}

/** What this host has, as the defaults and limits need it. */
export function hostFacts(): HostFacts {
  return {
    cpus: navigator.hardwareConcurrency,
    memoryMiB: Math.floor(Deno.systemMemoryInfo().total / (1024 * 1024)),
  };
}
