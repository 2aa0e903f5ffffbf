/**
 * The steps of up.ts that are more than one call.
 * It must not order them, print, or exit.
 *
 * @module
 */
import { join } from "@std/path";
import { hostPort } from "../net/forward.ts";
import {
  type GvproxyClient,
  gvproxyNetSocket,
  type RunningGvproxy,
  startGvproxy,
} from "../net/gvproxy.ts";
import { GUEST_SSH_PORT, type InstanceSsh, sshArgs, writeSshConfig } from "../net/ssh.ts";
import { ControlPort } from "../vm/control_port.ts";
import { describeError, GatewayError } from "../vm/error.ts";
import { fileSink, type Span } from "../vm/event.ts";
import type { InstanceConfig, LockedInstance, RunRecord } from "../vm/instance.ts";
import { exists, type InstancePaths, writeFileAtomic } from "../vm/layout.ts";
import { identifyProcess, run } from "../vm/process.ts";
import type { VmSpec } from "../vm/spec.ts";
import type { SavedState } from "../vm/saved_state.ts";
import type { DiskChain } from "../vm/disk_chain.ts";
import type { RunningVm } from "../vm/vmm.ts";
import { waitFor, within } from "../vm/wait.ts";
import { type BootArtifacts, hostArch } from "./artifacts.ts";
import type { ChosenVmm } from "./choose_vmm.ts";
import { clockRequest } from "./clock.ts";
import { deactivateClientFiles, writeClientFiles } from "./client_files.ts";
import { guardSignal } from "./guard.ts";
import { guestNetworkFor } from "./images/guest_network.ts";
import { adoptCluster, type AdoptParts } from "./identity.ts";
import { kubeconfigPath, readCredentials, writeKubeconfig } from "./kubeconfig.ts";
import { payloadManifests, SERVICE_NODE_PORT } from "./manifests.ts";
import { writePayload } from "./payload.ts";
import type { Pki } from "./pki.ts";
import { GUEST_ADDRESS, GUEST_API_PORT, netTransport, planVm } from "./plan.ts";
import { waitApiReady } from "./readiness.ts";
import type { UpContext } from "./up.ts";

/** The bound from "ports exposed" to READY: a cold cluster under emulation on a busy machine takes minutes. */
export const READY_TIMEOUT_MS = 12 * 60_000;
const GUEST_UP_TIMEOUT_MS = 120_000;

/** Copies every record, also the ones from before, to the instance's events.jsonl, made anew for this run. */
export function keepEvents(
  stack: AsyncDisposableStack,
  paths: InstancePaths,
  ctx: Pick<UpContext, "log" | "early">,
): void {
  try {
    Deno.removeSync(paths.eventsFile);
  } catch {
    // The first run has none.
  }
  const sink = stack.use(fileSink(paths.eventsFile));
  for (const record of ctx.early) sink(record);
  stack.defer(ctx.log.addSink(sink));
}

/** The record of a run that has just begun. */
export function newRun(config: InstanceConfig): RunRecord {
  return {
    schemaVersion: 1,
    phase: "starting",
    startedAt: new Date().toISOString(),
    readyAt: null,
    supervisor: identifyProcess(Deno.pid) ?? { pid: Deno.pid, startTime: "" },
    vmm: null,
    gvproxy: null,
    vmmDescription: null,
    vmmWhy: null,
    cluster: null,
    ports: config.ports,
    sshPort: null,
    apiPort: null,
    endpoint: null,
  };
}

/** What the record of a run gains when its endpoint answers. */
export function readyNow(port: number): Partial<RunRecord> {
  const readyAt = new Date().toISOString();
  return { phase: "ready", readyAt, endpoint: `https://127.0.0.1:${port}` };
}

/** Starts gvproxy for an instance. */
export async function networkFor(
  stack: AsyncDisposableStack,
  paths: InstancePaths,
  artifacts: BootArtifacts,
  ctx: UpContext,
  span: Span,
): Promise<RunningGvproxy> {
  const gvproxy = stack.use(
    await startGvproxy({
      binary: artifacts.gvproxy.files.gvproxy.path,
      socketDir: paths.runtimeDir,
      logPath: paths.gvproxyLog,
      span,
      signal: ctx.signal,
    }),
  );
  ctx.owned.add(gvproxy.pid);
  return gvproxy;
}

/** Plans the VM. Pure but for what this host is. */
export function planFor(
  paths: InstancePaths,
  config: InstanceConfig,
  artifacts: BootArtifacts,
  chosen: ChosenVmm,
  disk: DiskChain,
): VmSpec {
  return planVm({
    name: config.name,
    mode: "cluster",
    cpus: config.cpus,
    memoryMiB: config.memoryMiB,
    vmm: chosen.vmm.name,
    arch: hostArch(),
    os: Deno.build.os === "darwin" ? "darwin" : "linux",
    kernelPath: artifacts.kernel.files.vmlinux.path,
    rootImage: artifacts.root.files["root.erofs"].path,
    dir: paths.dir,
    runtimeDir: paths.runtimeDir,
    netSocket: gvproxyNetSocket(paths.runtimeDir, netTransport(chosen.vmm.name)),
    stateDisk: { path: join(paths.dir, disk.head.name), format: disk.head.format },
    ramLayers: chosen.vmm.supports.snapshot,
    emulated: chosen.check.accelerator === "tcg",
    tscKHz: chosen.tscKHz,
  });
}

/**
 * What the guest is given: settings, its ssh host key, the certificates as secrets, the demo service. Without a span
 * nothing of the user's registries, proxy and authorities.
 */
export async function writeUpPayload(
  paths: InstancePaths,
  config: InstanceConfig,
  pki: Pki,
  ssh: InstanceSsh,
  span?: Span,
): Promise<void> {
  const network = span && await guestNetworkFor(config, span);
  await writePayload(paths.payload, {
    env: {
      GW_MODE: "cluster",
      GW_NAME: config.name,
      GW_HOSTNAME: config.name === "default" ? "gateway" : config.name,
      GW_NET: "gvproxy",
      GW_K3S_ARGS: "",
      GW_CLOCK: (Date.now() / 1000).toFixed(3),
    },
    ssh: ssh.payload,
    manifests: payloadManifests({ certificates: pki }),
    ...network,
  });
}

/** Records what runs, opens the control port, and makes the signal that all later waits share. */
export async function attachVm(
  stack: AsyncDisposableStack,
  instance: LockedInstance,
  spec: VmSpec,
  parts: {
    readonly gvproxy: RunningGvproxy;
    readonly vm: RunningVm;
    readonly chosen: ChosenVmm;
    readonly artifacts: BootArtifacts;
  },
  ctx: UpContext,
  span: Span,
): Promise<{ control: ControlPort; guarded: AbortSignal }> {
  const { gvproxy, vm, chosen, artifacts } = parts;
  await instance.saveRun({
    vmm: identifyProcess(vm.pid) ?? null,
    gvproxy: identifyProcess(gvproxy.pid) ?? null,
    vmmDescription: chosen.check.description,
    vmmWhy: chosen.check.why,
    cluster: artifacts.cluster,
  });
  const { signal } = ctx;
  const control = stack.use(
    await ControlPort.connect(spec.consolePorts[0].socketPath, { span, signal }),
  );
  // A guest that goes on has its disk mounted from the first moment, and says nothing of its boot.
  stack.defer(() => powerOff(vm, control, spec.incoming !== null));
  const guarded = guardSignal(signal, {
    vm,
    control,
    gvproxy,
    consoleLogPath: spec.consoleLogPath,
    gvproxyLogPath: instance.paths.gvproxyLog,
    vmmLogPath: spec.vmmLogPath,
  });
  return { control, guarded };
}

/** The guest's own bounds: 20 s for the cluster, then killing pods and unmounting, slow under emulation. */
const POWER_OFF_TIMEOUT_MS = 45_000;

/** Asks the guest to power off and waits for it; what it does not do in time, the VM's disposal does. Never throws. */
export async function powerOff(
  vm: RunningVm,
  control: ControlPort,
  resumed = false,
): Promise<void> {
  // A guest that boots and has not said a word has mounted nothing that could be lost.
  if ((!resumed && control.markSeen("init") === undefined) || await within(vm.exited, 0)) return;
  try {
    await control.request("poweroff", 5000);
    await within(vm.exited, POWER_OFF_TIMEOUT_MS);
  } catch {
    // The agent is gone or hangs: nothing is left but to end the VM.
  }
}

/**
 * Waits for the guest's network and sets its clock. A guest that goes on has its network already and its clock stood
 * still; it also gets fresh random bytes, since the pool may have been copied with the memory, loses the connections
 * whose other end is gone, and becomes this instance if it was another.
 */
export async function guestUp(
  control: ControlPort,
  slot: SavedState | undefined,
  guarded: AbortSignal,
): Promise<void> {
  if (slot) {
    const bytes = crypto.getRandomValues(new Uint8Array(64));
    await control.request(`reseed ${bytes.toHex()}`, 10_000, guarded);
  } else await control.waitForMark("network", GUEST_UP_TIMEOUT_MS, guarded);
  await control.request(clockRequest(Date.now()), 10_000, guarded);
  if (!slot) return;
  // It takes what is its own from its own payload.
  if (slot.from) await control.request("payload", 40_000, guarded);
  const words = [...(slot.from ? ["adopt"] : []), ...(isOld(slot) ? ["renew"] : [])];
  await control.request(["thaw", ...words].join(" "), 40_000, guarded);
}

/** The certificates inside the cluster live a year, and a start makes those anew that end within three months. */
const OLD_MS = 200 * 24 * 60 * 60_000;

/** Whether the cluster in a saved state has to start again before its own certificates end. */
function isOld(slot: SavedState): boolean {
  return Date.now() - Date.parse(slot.savedAt) > OLD_MS;
}

/** Puts this instance's certificates into a cluster that went on from another's memory; nothing to do for any other. */
export async function becomeOwn(
  span: Span,
  parts:
    & { readonly paths: InstancePaths }
    & Omit<AdoptParts, "from" | "renewed" | "span" | "apiPort" | "readKubeconfig" | "gvproxy">
    & {
      readonly slot: SavedState | undefined;
      readonly ports: { readonly apiPort: number | null };
      readonly gvproxy: RunningGvproxy;
    },
): Promise<void> {
  const { slot, ports, gvproxy, paths, guarded } = parts;
  const from = slot?.from;
  if (!from) return;
  const readKubeconfig = () => readGuestKubeconfig(paths, guarded);
  await span.run("identity", (s) =>
    adoptCluster({
      ...parts,
      from,
      renewed: isOld(slot),
      apiPort: ports.apiPort,
      gvproxy: gvproxy.client,
      readKubeconfig,
      span: s,
    }));
}

/** Opens the user's forwards, and one loopback port each for ssh and the cluster's API. */
export async function exposePorts(
  gvproxy: GvproxyClient,
  paths: InstancePaths,
  config: InstanceConfig,
  before: Pick<SavedState, "sshPort" | "apiPort"> | undefined,
): Promise<{ readonly sshPort: number; readonly apiPort: number | null }> {
  const guest = (port: number) => `${GUEST_ADDRESS}:${port}`;
  for (const forward of config.ports) {
    await gvproxy.expose(hostPort(forward.address, forward.hostPort), guest(forward.guestPort));
  }
  // The ports of before the suspend, if nobody took them: then kubeconfig and ssh config stay as they are.
  const exposeFree = async (guestPort: number, wanted: number | null | undefined) => {
    const again = wanted
      ? await gvproxy.exposeLoopback(guest(guestPort), wanted).catch(() => undefined)
      : undefined;
    return again ?? await gvproxy.exposeLoopback(guest(guestPort));
  };
  const sshPort = await exposeFree(GUEST_SSH_PORT, before?.sshPort);
  const apiPort = config.kubeApi ? await exposeFree(GUEST_API_PORT, before?.apiPort) : null;
  const { sshDir, runtimeDir, name } = paths;
  await writeSshConfig({ sshDir, name, port: sshPort, runtimeDir });
  return { sshPort, apiPort };
}

/**
 * The host port that leads to the service.
 *
 * @throws GatewayError `usage` when no forward leads there.
 */
export function servicePort(config: InstanceConfig): number {
  const forward = config.ports.find((port) => port.guestPort === SERVICE_NODE_PORT);
  if (forward) return forward.hostPort;
  throw new GatewayError({
    code: "usage",
    what: "Cannot tell when the service is ready",
    why: `no --port leads to the guest's port ${SERVICE_NODE_PORT}`,
    fix: `add --port ${SERVICE_NODE_PORT}:${SERVICE_NODE_PORT}`,
  });
}

/**
 * Fetches the kubeconfig and waits for the API beside the wait for the service. The boot never depends on it: what
 * goes wrong becomes a warning. Resolves when it is settled; never rejects.
 */
export async function startKubeApi(
  parent: Span,
  paths: InstancePaths,
  config: InstanceConfig,
  ports: { readonly apiPort: number | null },
  before: SavedState | undefined,
  guarded: AbortSignal,
): Promise<void> {
  const { apiPort } = ports;
  if (apiPort === null) return;
  // The kubeconfig of before the suspend is still right.
  const same = before?.apiPort === apiPort && !before.from && !isOld(before);
  if (same && await exists(kubeconfigPath(config.name))) return;
  try {
    await parent.run("kubernetes api", async (span) => {
      const k3sYaml = await keptKubeconfig(before) ??
        await readGuestKubeconfig(paths, guarded);
      await writeFileAtomic(join(paths.dir, "k3s.yaml"), k3sYaml);
      const credentials = readCredentials(k3sYaml);
      const timeoutMs = READY_TIMEOUT_MS;
      await waitApiReady({ port: apiPort, credentials, span, signal: guarded, timeoutMs });
      const owner = { instance: config.name, instanceDir: paths.dir };
      const written = await writeKubeconfig({ k3sYaml, apiPort, owner });
      span.log(`kubeconfig ${written.path}`);
    });
  } catch (error) {
    if (!guarded.aborted) parent.warn(`no kubeconfig: ${describeError(error)}`);
  }
}

/** The kubeconfig that was saved with another's state: its cluster's authority and client are still the same. */
async function keptKubeconfig(before: SavedState | undefined): Promise<string | undefined> {
  if (!before || isOld(before)) return undefined;
  const { from } = before;
  return from?.k3sYaml ? await Deno.readTextFile(from.k3sYaml).catch(() => undefined) : undefined;
}

async function readGuestKubeconfig(paths: InstancePaths, signal: AbortSignal): Promise<string> {
  const args = sshArgs(`${paths.sshDir}/config`, paths.name, ["cat", "/etc/rancher/k3s/k3s.yaml"]);
  return await waitFor({
    what: "the cluster's kubeconfig in the guest",
    probe: async (inner) => {
      const { code, stdout } = await run("ssh", { args, signal: inner, check: false });
      return code === 0 && stdout !== "" ? stdout : undefined;
    },
    timeoutMs: READY_TIMEOUT_MS,
    intervalMs: 1000,
    probeTimeoutMs: 40_000,
    signal,
    code: "guest-unreachable",
  });
}

/**
 * Writes the client's certificates and metadata in OpenShell's format, and makes this the active gateway for as long as
 * it runs.
 */
export async function publishClientFiles(
  stack: AsyncDisposableStack,
  paths: InstancePaths,
  config: InstanceConfig,
  pki: Pki,
  port: number,
): Promise<void> {
  const owner = { instance: config.name, instanceDir: paths.dir };
  await writeClientFiles({ owner, port, caPem: pki.caPem, client: pki.client });
  stack.defer(() => deactivateClientFiles(owner).then(() => {}, () => {}));
}
