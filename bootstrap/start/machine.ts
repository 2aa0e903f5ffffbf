/**
 * The fourth station of a start: what it owns while its guest runs (gvproxy, the VM, its control port, the one signal that
 * every later wait shares), the run's records and events, and how the guest is powered off.
 *
 * @module
 */
import { gvproxyConfinementText, type RunningGvproxy, startGvproxy } from "../../net/gvproxy.ts";
import { writeCacheFile } from "../../vm/base/durable.ts";
import { fileSink, type Span } from "../../vm/base/event.ts";
import type { InstancePaths } from "../../vm/base/layout.ts";
import { keepLogsSmall } from "../../vm/base/log_file.ts";
import { identifyProcess } from "../../vm/base/process_table.ts";
import { within } from "../../vm/base/wait.ts";
import type { InstanceConfig, RunRecord } from "../../vm/instance/instance.ts";
import { ControlPort } from "../../vm/machine/control_port.ts";
import type { RunningVm } from "../../vm/machine/vmm.ts";
import { egressOf, watchRefusals } from "../run/egress.ts";
import { guardSignal } from "../run/guard.ts";
import { tellSilentServices } from "../run/host_service.ts";
import type { UpContext } from "./context.ts";
import { startGuest } from "./guest_vm.ts";
import type { Parts } from "./parts.ts";
import { replayScript } from "./replay.ts";
import type { Source } from "./source.ts";

/** Copies every record of this run, also the ones from before, to the instance's events.jsonl until it is disposed. */
export function keepEvents(
  paths: InstancePaths,
  ctx: Pick<UpContext, "log" | "early">,
): Disposable {
  try {
    Deno.removeSync(paths.eventsFile);
  } catch {
    // The first run has none.
  }
  const sink = fileSink(paths.eventsFile);
  for (const record of ctx.early) sink(record);
  const remove = ctx.log.addSink(sink);
  return {
    [Symbol.dispose]() {
      remove();
      sink[Symbol.dispose]();
    },
  };
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

/** A VM that runs with all that a start owns for it. Disposing powers the guest off and ends everything. */
export interface Machine extends AsyncDisposable {
  readonly vm: RunningVm;
  readonly control: ControlPort;
  readonly gvproxy: RunningGvproxy;
  /** Aborts when the user's signal does, and when the VM, gvproxy or the guest ends or fails. */
  readonly guarded: AbortSignal;
}

/**
 * Starts network and VM, opens the control port, and records what runs.
 *
 * @throws GatewayError of the part that failed, or the signal's reason; then nothing runs any more.
 */
export async function boot(
  parts: Parts,
  source: Source,
  { signal, owned }: Pick<UpContext, "signal" | "owned">,
  span: Span,
): Promise<Machine> {
  const { instance, chosen } = parts;
  const { paths } = instance;
  const { spec } = source;
  await using stack = new AsyncDisposableStack();
  const gvproxy = stack.use(
    await span.run("start gvproxy", (s) => startNetwork(parts, { span: s, signal })),
  );
  owned.add(gvproxy.pid);
  void watchRefusals(gvproxy.client, span, signal);
  stack.use(keepLogsSmall([spec.consoleLogPath, spec.vmmLogPath]));
  const vm = stack.use(
    await span.run("start vm", (s) => startGuest(source, paths, chosen, { span: s, signal })),
  );
  owned.add(vm.pid);
  const control = await span.run("attach", async (s) => {
    await recordProcesses(parts, { vm, gvproxy }, signal);
    await writeCacheFile(paths.replayFile, replayScript(spec, vm.command, gvproxy.command), 0o700);
    return await ControlPort.connect(spec.consolePorts[0]!.socketPath, { span: s, signal });
  });
  stack.use(control);
  // A guest that resumes has its disk mounted from the first moment, and reports nothing of a boot.
  stack.defer(() => powerOff(vm, control, spec.incoming !== null));
  const guarded = guardSignal(signal, {
    ...{ vm, control, gvproxy },
    consoleLogPath: spec.consoleLogPath,
    gvproxyLogPath: paths.gvproxyLog,
    vmmLogPath: spec.vmmLogPath,
  });
  const all = stack.move();
  return { vm, control, gvproxy, guarded, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

async function startNetwork(
  { plan: { options: { config } }, instance: { paths }, artifacts }: Parts,
  how: { readonly span: Span; readonly signal: AbortSignal },
): Promise<RunningGvproxy> {
  const { hostServices } = config;
  const started = await startGvproxy({
    binary: artifacts.gvproxy.files.gvproxy!.path,
    socketDir: paths.runtimeDir,
    logPath: paths.gvproxyLog,
    hostServices,
    egress: await egressOf(config, how.span),
    ...how,
  });
  await tellSilentServices(hostServices, how.span);
  return started;
}

async function recordProcesses(
  { instance, chosen, artifacts }: Parts,
  { vm, gvproxy }: Pick<Machine, "vm" | "gvproxy">,
  signal: AbortSignal,
): Promise<void> {
  await instance.saveRun({
    vmm: identifyProcess(vm.pid) ?? null,
    gvproxy: identifyProcess(gvproxy.pid) ?? null,
    vmmDescription: chosen.check.description,
    vmmWhy: chosen.check.why,
    confinement: { vmm: vm.confinement ?? null, gvproxy: await confinementOf(gvproxy, signal) },
    cluster: artifacts.cluster,
  });
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
