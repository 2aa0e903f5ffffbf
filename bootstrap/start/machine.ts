/**
 * What a start owns while its guest runs: records and events of the run, gvproxy, the control port, the one signal that
 * every later wait shares; and how the guest is powered off.
 *
 * @module
 */
import { gvproxyConfinementText, type RunningGvproxy, startGvproxy } from "../../net/gvproxy.ts";
import { fileSink, type Span } from "../../vm/base/event.ts";
import type { InstancePaths } from "../../vm/base/layout.ts";
import { identifyProcess } from "../../vm/base/process.ts";
import { within } from "../../vm/base/wait.ts";
import type { InstanceConfig, LockedInstance, RunRecord } from "../../vm/instance/instance.ts";
import { ControlPort } from "../../vm/machine/control_port.ts";
import type { VmSpec } from "../../vm/machine/spec.ts";
import type { RunningVm } from "../../vm/machine/vmm.ts";
import type { BootArtifacts } from "../artifacts/ensure.ts";
import type { ChosenVmm } from "../plan/choose_vmm.ts";
import { egressOf, watchRefusals } from "../run/egress.ts";
import { guardSignal } from "../run/guard.ts";
import { tellSilentServices } from "../run/host_service.ts";
import type { UpContext } from "./context.ts";

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
        binary: artifacts.gvproxy.files.gvproxy!.path,
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
    await ControlPort.connect(spec.consolePorts[0]!.socketPath, { span, signal }),
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
