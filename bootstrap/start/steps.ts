/**
 * The steps of up.ts that are more than one call.
 * It must not order them, print, or exit.
 *
 * @module
 */
import { dirname, join } from "@std/path";
import { hostPort, reachableAddress } from "../../net/forward.ts";
import {
  type GvproxyClient,
  gvproxyConfinementText,
  gvproxyNetSocket,
  type RunningGvproxy,
  startGvproxy,
} from "../../net/gvproxy.ts";
import { ensureSsh, GUEST_SSH_PORT, type InstanceSsh, writeSshConfig } from "../../net/ssh.ts";
import { ControlPort } from "../../vm/machine/control_port.ts";
import { describeError, GatewayError } from "../../vm/base/error.ts";
import { fileSink, type Span } from "../../vm/base/event.ts";
import type {
  InstanceConfig,
  LockedInstance,
  PortForward,
  RunRecord,
} from "../../vm/instance/instance.ts";
import type { InstancePaths } from "../../vm/base/layout.ts";
import { identifyProcess } from "../../vm/base/process.ts";
import type { VmSpec } from "../../vm/machine/spec.ts";
import type { SavedState } from "../../vm/instance/saved_state.ts";
import type { DiskChain } from "../../vm/instance/disk_chain.ts";
import type { RunningVm } from "../../vm/machine/vmm.ts";
import { together } from "../../vm/base/together.ts";
import { within } from "../../vm/base/wait.ts";
import { type BootArtifacts, ensureArtifacts, hostArch } from "../artifacts/ensure.ts";
import type { ChosenVmm } from "../plan/choose_vmm.ts";
import { clockRequest } from "../run/clock.ts";
import { type GuestControl, reseed } from "../run/frozen_programs.ts";
import { isOld } from "../cluster/slot_certificates.ts";
import { ensureJwt, takeJwt } from "../credentials/jwt.ts";
import { ensureLoginKey } from "../credentials/login_key.ts";
import { guardSignal } from "../run/guard.ts";
import { guestNetworkFor } from "../images/guest_network.ts";
import { payloadFiles } from "../payload/manifests.ts";
import { type PreparedPayload, preparePayload } from "../payload/prepare.ts";
import type { Payload } from "../payload/payload.ts";
import { offeringDemo } from "../payload/choose.ts";
import { writePayload } from "./payload_disk.ts";
import { ensurePki, type Pki } from "../credentials/pki.ts";
import { netTransport, planVm } from "../plan/plan.ts";
import { GUEST_ADDRESS, GUEST_API_PORT } from "../../net/guest.ts";
import { egressOf, watchRefusals } from "../run/egress.ts";
import { tellSilentServices } from "../run/host_service.ts";
import type { UpOptions } from "../plan/options.ts";
import { type SecretMaterial, wantsJwt } from "../payload/secrets.ts";
import type { UpContext } from "./context.ts";

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
export function newRun(config: InstanceConfig, { runtimeDir }: InstancePaths): RunRecord {
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
    notes: null,
    runtimeDir,
  };
}

/** Starts gvproxy for an instance, and warns from then on of what the guest is refused. */
export async function networkFor(
  stack: AsyncDisposableStack,
  paths: InstancePaths,
  config: InstanceConfig,
  artifacts: BootArtifacts,
  ctx: UpContext,
  parent: Span,
): Promise<RunningGvproxy> {
  const gvproxy = await parent.run("start gvproxy", async (span) => {
    const { hostServices } = config;
    const started = stack.use(
      await startGvproxy({
        binary: artifacts.gvproxy.files.gvproxy.path,
        socketDir: paths.runtimeDir,
        logPath: paths.gvproxyLog,
        hostServices,
        egress: await egressOf(config, span),
        span,
        signal: ctx.signal,
      }),
    );
    await tellSilentServices(hostServices, span);
    return started;
  });
  ctx.owned.add(gvproxy.pid);
  void watchRefusals(gvproxy.client, parent, ctx.signal);
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

/** What a start is made of: artifacts of this host, and what its payload takes from elsewhere. */
export async function ensureParts(
  parent: Span,
  options: UpOptions,
  payload: Payload,
  signal: AbortSignal,
): Promise<{ readonly artifacts: BootArtifacts; readonly prepared: PreparedPayload }> {
  const artifacts = await parent.run(
    "artifacts",
    (span) => ensureArtifacts({ ...options, span, signal }),
  );
  const { config } = options;
  const how = { ...options, span: parent, signal };
  const prepared = await offeringDemo(config.payload, preparePayload(payload, how));
  return { artifacts, prepared };
}

/**
 * The instance's own certificates and ssh keys. The service's certificate also names the address that it is forwarded
 * from, since a client calls it by that.
 *
 * @throws GatewayError as ensurePki().
 */
export async function ensureKeys(
  paths: Pick<InstancePaths, "pkiDir" | "sshDir">,
  { address }: Pick<PortForward, "address">,
  options: { readonly span: Span; readonly signal: AbortSignal },
): Promise<readonly [Pki, InstanceSsh]> {
  const extraNames = [reachableAddress(address)];
  return await together<[Pki, InstanceSsh]>([
    (both) => ensurePki(paths.pkiDir, { ...options, signal: both, extraNames }),
    () => ensureSsh(paths.sshDir),
  ], options);
}

/** What the payload's Secrets are filled with; keys that sign tokens only where it wants them. */
export async function readMaterial(
  paths: InstancePaths,
  payload: Payload,
  certificates: Pki,
): Promise<SecretMaterial> {
  const jwt = wantsJwt(payload) ? await ensureJwt(paths.jwtDir) : undefined;
  const tokenKey = payload.login ? await ensureLoginKey(paths.loginDir) : undefined;
  return { certificates, ...(jwt && { jwt }), ...(tokenKey !== undefined && { tokenKey }) };
}

/** The material of an instance that goes on from another's memory: the service's own token keys stay what they are there. */
export async function adoptMaterial(
  paths: InstancePaths,
  slot: SavedState | undefined,
  material: SecretMaterial,
): Promise<SecretMaterial> {
  if (!slot?.from || !material.jwt) return material;
  const jwt = await takeJwt(join(dirname(slot.from.pkiDir), "jwt"), paths.jwtDir);
  return jwt ? { ...material, jwt } : material;
}

/**
 * What the guest is given: settings, its ssh host key, the payload with its Secrets. Without a span nothing of the
 * user's registries, proxy and authorities.
 */
export async function writeUpPayload(
  paths: InstancePaths,
  config: InstanceConfig,
  prepared: PreparedPayload,
  material: SecretMaterial,
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
    manifests: payloadFiles(prepared, material),
    tokenKey: material.tokenKey,
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
    confinement: { vmm: vm.confinement ?? null, gvproxy: await confinementOf(gvproxy, ctx.signal) },
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

async function confinementOf({ client }: RunningGvproxy, signal: AbortSignal): Promise<string> {
  return gvproxyConfinementText(await client.confinement(signal));
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
 * still; it also gets fresh random bytes, since the pool may have been copied with the memory, before its programs run,
 * loses the connections whose other end is gone, and becomes this instance if it was another. `prepared` is the payload that it is to run.
 */
export async function guestUp(
  control: Pick<ControlPort, "request" | "waitForMark">,
  slot: SavedState | undefined,
  guarded: AbortSignal,
  prepared?: Pick<PreparedPayload, "digest" | "payload">,
): Promise<void> {
  if (!slot) await control.waitForMark("network", GUEST_UP_TIMEOUT_MS, guarded);
  await control.request(clockRequest(Date.now()), 10_000, guarded);
  if (!slot) return;
  // Programs that were frozen for the save run from here on, by the right clock.
  await reseed(control, guarded);
  // It takes what is its own, or was changed, from its own payload.
  if (slot.from || slot.payload !== prepared?.digest) {
    await control.request("payload", 40_000, guarded);
  }
  // Before anything starts again and before anybody is let in: until then its tokens are the other's, too.
  if (slot.from && !slot.from.self && prepared?.payload.login) {
    await replaceTokenKey(control, guarded);
  }
  const words = [...(slot.from ? ["adopt"] : []), ...(isOld(slot) ? ["renew"] : [])];
  await control.request(["thaw", ...words].join(" "), 40_000, guarded);
}

/** Lets the cluster sign with this instance's own key. @throws GatewayError `not-supported`, or the signal's reason. */
async function replaceTokenKey(control: GuestControl, guarded: AbortSignal): Promise<void> {
  try {
    await control.request("token-key", 40_000, guarded);
  } catch (error) {
    if (guarded.aborted) throw error;
    throw new GatewayError({
      code: "not-supported",
      what: "Cannot give the clone a login of its own",
      why: describeError(error),
      fix: "start it with `gateway up --cold`, and leave --cluster-binary out to fork instances",
    });
  }
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
  const { sshDir, name } = paths;
  await writeSshConfig({ sshDir, name, port: sshPort });
  return { sshPort, apiPort };
}
