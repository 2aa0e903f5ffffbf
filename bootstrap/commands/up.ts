/**
 * The commands `up` and `resume`: foreground, background or a one-shot VM, with progress on the terminal that they are
 * given.
 * It must not print by itself, install signal handlers or exit.
 *
 * @module
 */
import { resolve } from "@std/path";
import { parseForward } from "../../net/forward.ts";
import { errorText, GatewayError, usageError } from "../../vm/base/error.ts";
import { EventLog, type EventRecord, type EventSink } from "../../vm/base/event.ts";
import { signalProcess } from "../../vm/base/process.ts";
import { pause } from "../../vm/base/wait.ts";
import { findInstance, requireInstance } from "../../vm/instance/instance.ts";
import { instanceStatus } from "../inspect/status.ts";
import { readyText } from "../inspect/status_text.ts";
import { hostFacts, resolveOptions, type UpOptions, type UpRequest } from "../plan/options.ts";
import { parseUpOptions } from "../plan/options_file.ts";
import { followerSink, readDetachedPlan, READY_MESSAGE, startDetached } from "../run/detach.ts";
import { allowNetFlags } from "../run/egress.ts";
import { hostServiceFlags } from "../run/host_service.ts";
import { RestartLimit } from "../run/restarts.ts";
import { watchOwner } from "../saved/owner.ts";
import { decideOptions } from "../start/decide.ts";
import { attachProgress } from "../view/progress_view.ts";
import type { UpFlags } from "./definitions.ts";
import { assumeYes, type CommandIo, tellAfterwards } from "./io.ts";

/** Runs `up`; returns the exit code. */
export async function runUp(
  io: CommandIo<UpFlags> & {
    readonly args: readonly string[];
    /** Aborts on a second Ctrl-C. */
    readonly force: AbortSignal;
  },
): Promise<number> {
  const { flags } = io;
  const asked = upRequest(flags, io.args);
  if (asked.exec) return await runExec(resolveOptions(asked, hostFacts()), io);
  const options = await decide(asked, io);
  if (options.payloadWhy && io.terminal) io.err(options.payloadWhy);
  return flags.detach ? await runDetached(options, io) : await runForeground(options, io);
}

/** Runs `__up FILE`: the supervisor that `up --detach`, `resume`, `fork` and builds start in the background. */
export async function runSupervisor(
  words: readonly string[],
  io: CommandIo & { readonly force: AbortSignal },
): Promise<number> {
  const { plan, eventsTo } = await readDetachedPlan(words);
  using follower = followerSink(eventsTo);
  return await runForeground(parseUpOptions(plan, words[0]!), io, follower);
}

/** Resolves the request, and shows what has to be pulled for it. */
async function decide(asked: UpRequest, io: CommandIo): Promise<UpOptions> {
  const log = new EventLog();
  using _told = tellAfterwards(log, io);
  using _view = attachProgress(log, { ...io, quiet: false });
  return await decideOptions(asked, log, io.signal);
}

function upRequest(flags: UpFlags, args: readonly string[]): UpRequest {
  const { exec } = flags;
  if (exec === undefined && args.length > 0) {
    throw usageError(
      `Cannot run "${args[0]}"`,
      "it is no command, and arguments need --exec",
      "run `gateway --help` for the commands",
    );
  }
  return {
    name: flags.name,
    cpus: flags.cpus,
    memoryMiB: flags.memory,
    stateMiB: flags.disk,
    ports: flags.port?.map(parseForward) ?? [],
    hostServices: hostServiceFlags(flags),
    egress: flags.egress,
    allowNets: allowNetFlags(flags),
    net: flags.net,
    vmm: flags.vmm,
    arch: flags.arch,
    libkrun: flags.libkrun,
    payload: flags.payload,
    keep: flags.keep === true,
    // It is true where the user said nothing; only --no-kube-api is a choice.
    kubeApi: flags.kubeApi === false ? false : undefined,
    assumeYes: assumeYes(flags.yes),
    clusterBinary: flags.clusterBinary,
    hostProxy: flags.hostProxy,
    hostCa: typeof flags.hostCa === "string" ? resolve(flags.hostCa) : flags.hostCa,
    exec: exec === undefined ? undefined : [exec, ...args],
    detach: flags.detach === true,
    cold: flags.cold === true,
  };
}

async function runExec(options: UpOptions, io: CommandIo): Promise<number> {
  const { checkExecProgram, execInFreshVm } = await import("../start/exec.ts");
  checkExecProgram(options.exec![0]!);
  const log = new EventLog();
  // The guest's own output owns the terminal; only what goes wrong and long builds are told.
  using _view = attachProgress(log, { ...io, terminal: undefined, quiet: true });
  return await execInFreshVm(options, {
    log,
    signal: io.signal,
    streams: { stdin: Deno.stdin.readable, stdout: Deno.stdout, stderr: Deno.stderr },
  });
}

async function runForeground(
  options: UpOptions,
  io: CommandIo & { readonly force: AbortSignal },
  follower?: EventSink,
): Promise<number> {
  const { up } = await import("../start/up.ts");
  const log = new EventLog();
  const early: EventRecord[] = [];
  const forget = log.addSink((record) => void early.push(record));
  if (follower) log.addSink(follower);
  using view = attachProgress(log, { ...io, quiet: follower !== undefined });
  const owned = new Set<number>();
  using owner = watchOwner();
  const signal = AbortSignal.any([io.signal, owner.gone]);
  // What the guest does not give up after the first Ctrl-C, a second one ends.
  io.force.addEventListener("abort", () => {
    for (const pid of owned) signalProcess(pid, "SIGKILL");
  });
  const started = performance.now();
  let ready = false;
  let kept = false;
  const ctx = {
    log,
    early,
    signal,
    owned,
    onReady: async () => {
      if (ready) return log.span("ready").log("ready again");
      ready = true;
      forget();
      view[Symbol.dispose]();
      log.span("ready").log(READY_MESSAGE);
      if (!follower) await tellReady(options, io, performance.now() - started, false);
    },
    onKept: (error: GatewayError) => {
      kept = true;
      forget();
      view[Symbol.dispose]();
      // A follower takes the end of a span without a parent for the end of the start.
      log.span("kept").end(error);
      if (follower) return;
      if (io.flags.json) io.json({ error: error.toJSON() });
      io.err(`${errorText(error)}\n\nThe VM is kept; Ctrl-C stops it.`);
    },
  };
  const restarts = new RestartLimit(options.config.name);
  let end = await up(options, ctx);
  while (end === "again" && !signal.aborted) {
    await pause(restarts.next(), signal).catch(() => {});
    if (signal.aborted) break;
    // Its settings may have been changed since, by `gateway host-service`.
    const { config } = await requireInstance(options.config.name);
    end = await up({ ...options, config, cold: false }, ctx);
  }
  if ((ready || kept) && !follower) {
    const after = await findInstance(options.config.name);
    io.err(`${after?.state === "suspended" ? "Suspended" : "Stopped"} "${options.config.name}".`);
  }
  return kept ? 1 : ready ? 0 : 130;
}

/**
 * Runs `resume`: `up --detach` of an instance that is suspended.
 *
 * @throws GatewayError `instance-unknown`, `instance-running`, `instance-stopped`.
 */
export async function runResume(io: CommandIo, name: string): Promise<number> {
  const { state, config } = await requireInstance(name);
  if (state !== "suspended") {
    throw new GatewayError({
      code: state === "running" ? "instance-running" : "instance-stopped",
      what: `Cannot resume the instance "${name}"`,
      why: state === "running" ? "it is running" : "it is not suspended",
      fix: state === "running"
        ? `use it, or run \`gateway suspend --name ${name}\` first`
        : `run \`gateway up --name ${name}\` to start it from its disk`,
    });
  }
  const request = { name, assumeYes: assumeYes(undefined) };
  const options = resolveOptions(request, hostFacts(), config);
  return await runDetached(options, io);
}

async function runDetached(
  options: UpOptions,
  io: CommandIo,
): Promise<number> {
  const log = new EventLog();
  using view = attachProgress(log, { ...io, quiet: false });
  const started = performance.now();
  await startDetached(options, { onEvent: view.show, signal: io.signal });
  view[Symbol.dispose]();
  await tellReady(options, io, performance.now() - started, true);
  return 0;
}

async function tellReady(
  options: UpOptions,
  io: CommandIo,
  tookMs: number,
  detached: boolean,
): Promise<void> {
  const report = await instanceStatus(options.config.name);
  if (io.flags.json) io.json(report);
  else io.out(readyText(report, tookMs, detached));
}
