/**
 * `--exec`: a fresh VM without a cluster whose main process is the user's command. The same line as up.ts with
 * fewer stations; its folder is temporary and nothing is left behind. The VM ends with this process, even a killed one.
 * It must not touch an instance.
 *
 * @module
 */
import { join } from "@std/path";
import { kernelFile } from "../../kernel/kernel.ts";
import { gvproxyNetSocket, type RunningGvproxy, startGvproxy } from "../../net/gvproxy.ts";
import { guestEnv } from "../../rootfs/contract.ts";
import { guestArch } from "../../vm/base/arch.ts";
import { writeFileAtomic } from "../../vm/base/durable.ts";
import { abortError, GatewayError } from "../../vm/base/error.ts";
import type { EventLog, Span } from "../../vm/base/event.ts";
import { dataDir, ensurePrivateDir, ensureRuntimeDir, runtimeDir } from "../../vm/base/layout.ts";
import { connectUnix } from "../../vm/base/lines.ts";
import { keepLogsSmall } from "../../vm/base/log_file.ts";
import { orphanId, ownedName } from "../../vm/base/process_table.ts";
import { raceAbort, waitFor, within } from "../../vm/base/wait.ts";
import { tsiFirmware } from "../../vm/libkrun/find.ts";
import { ControlPort } from "../../vm/machine/control_port.ts";
import { StdioPort, type StdioStreams } from "../../vm/machine/stdio_port.ts";
import { ensureArtifacts } from "../artifacts/ensure.ts";
import { chooseVmm, type ChosenVmm } from "../plan/choose_vmm.ts";
import type { UpOptions } from "../plan/options.ts";
import { netTransport, type PlanInput, planVm } from "../plan/plan.ts";
import { watchRefusals } from "../run/egress.ts";
import { guardSignal } from "../run/guard.ts";
import { writePayload } from "./payload_disk.ts";

/** What the one-shot VM gets from the command line. */
export interface ExecContext {
  /** Gets one root span, `exec`. */
  readonly log: EventLog;
  /** Ends the VM at once. */
  readonly signal: AbortSignal;
  /** The command's stdin, stdout and stderr; the caller keeps owning them. */
  readonly streams: StdioStreams;
}

/** What the VM is made of, built and chosen. */
export interface ExecParts extends ChosenVmm {
  readonly kernelPath: string;
  readonly kernelFormat?: PlanInput["kernelFormat"];
  readonly rootImage: string;
  /** The program. */
  readonly gvproxy: string;
}

/**
 * Runs the command and returns its exit code: 127 when there is no such program, 126 when it cannot be executed.
 *
 * @throws GatewayError of the step that failed, `vm-exited` when the VM dies, `interrupted` on a signal.
 */
export async function execInFreshVm(options: UpOptions, ctx: ExecContext): Promise<number> {
  const { signal } = ctx;
  const span = ctx.log.span("exec");
  const artifacts = await span.run(
    "artifacts",
    (s) => ensureArtifacts({ ...options, span: s, signal }),
  );
  const chosen = await span.run(
    "choose vmm",
    (s) => chooseVmm(artifacts, { ...options, span: s, signal }),
  );
  const code = await execWith(
    {
      ...chosen,
      ...await execKernel(options, kernelFile(artifacts.kernel).path, chosen, span),
      rootImage: artifacts.root.files["root.erofs"]!.path,
      gvproxy: artifacts.gvproxy.files.gvproxy!.path,
    },
    options,
    { ...ctx, span },
  );
  span.end();
  return code;
}

/** Ours, or for TSI the one that can do it. @throws GatewayError `not-supported`. */
export async function execKernel(
  { net }: Pick<UpOptions, "net">,
  ours: string,
  { check }: Pick<ChosenVmm, "check">,
  span: Span,
): Promise<Pick<ExecParts, "kernelPath" | "kernelFormat">> {
  if (net === "tsi") {
    const kernelPath = await tsiFirmware(check.firmware);
    span.warn(
      "with --net tsi this host makes the guest's connections, as your own programs do, also to its loopback; " +
        "k3s does not work through it",
    );
    return { kernelPath, kernelFormat: "libkrunfw" };
  }
  return { kernelPath: ours };
}

/** This host's resolvers, for a guest that has its network. */
async function hostResolvers(): Promise<string> {
  const text = await Deno.readTextFile("/etc/resolv.conf").catch(() => "");
  return [...text.matchAll(/^\s*nameserver\s+([0-9a-fA-F:.]+)\s*$/gm)]
    .map(([, address]) => address).join(" ");
}

/** The line from "everything is there" on. @throws as {@linkcode execInFreshVm}. */
export async function execWith(
  parts: ExecParts,
  options: Pick<UpOptions, "config" | "net" | "exec">,
  ctx: Omit<ExecContext, "log"> & { readonly span: Span },
): Promise<number> {
  const { span, signal } = ctx;
  await using folders = await makeFolders();
  const { id, dir, sockets } = folders;
  const gvproxyLogPath = join(dir, "gvproxy.log");
  await using gvproxy = options.net === "gvproxy"
    ? await startNetwork(parts, options, sockets, gvproxyLogPath, ctx)
    : undefined;
  const spec = planVm({
    name: id,
    mode: "exec",
    cpus: options.config.cpus,
    memoryMiB: options.config.memoryMiB,
    vmm: parts.vmm.name,
    arch: guestArch(options.config),
    os: Deno.build.os === "darwin" ? "darwin" : "linux",
    kernelPath: parts.kernelPath,
    kernelFormat: parts.kernelFormat,
    rootImage: parts.rootImage,
    dir,
    runtimeDir: sockets,
    netSocket: gvproxy ? gvproxyNetSocket(sockets, netTransport(parts.vmm.name)) : null,
    tsi: options.net === "tsi",
    stateDisk: null,
    ramLayers: false,
    emulated: parts.check.accelerator === "tcg",
    tscKHz: parts.tscKHz,
  });
  await writeFileAtomic(join(dir, "vm.json"), JSON.stringify(spec, null, 2));
  await writePayload(join(dir, "payload.tar"), {
    env: guestEnv({
      mode: "exec",
      name: id,
      hostname: "gateway",
      net: options.net,
      dns: options.net === "tsi" ? await hostResolvers() : undefined,
    }),
    exec: { argv: options.exec!, env: EXEC_ENV, cwd: "/" },
  });
  await using _logs = keepLogsSmall([spec.consoleLogPath, spec.vmmLogPath]);
  await using vm = await span.run("start vm", (s) => parts.vmm.start(spec, { span: s, signal }));
  const [controlPath, stdioPath] = spec.consolePorts.map((port) => port.socketPath);
  using control = await ControlPort.connect(controlPath!, { span, signal });
  const guarded = guardSignal(signal, {
    vm,
    control,
    gvproxy,
    consoleLogPath: spec.consoleLogPath,
    gvproxyLogPath,
    vmmLogPath: spec.vmmLogPath,
  });
  using stdio = await connectStdio(stdioPath!, guarded);
  const code = await exitCodeOf(new StdioPort(stdio.conn).run(ctx.streams), guarded, signal);
  await span.run("guest off", () => within(vm.exited, 5000));
  return code;
}

async function startNetwork(
  parts: ExecParts,
  { config }: Pick<UpOptions, "config">,
  socketDir: string,
  logPath: string,
  { span, signal }: { readonly span: Span; readonly signal: AbortSignal },
): Promise<RunningGvproxy> {
  const gvproxy = await startGvproxy({
    binary: parts.gvproxy,
    socketDir,
    logPath,
    hostServices: config.hostServices,
    egress: { mode: config.egress, nets: config.allowNets },
    span,
    signal,
  });
  void watchRefusals(gvproxy.client, span, signal);
  return gvproxy;
}

/**
 * The command's exit code. A guest that powers off right after it said the code races the guard, and a guest that
 * dies closes the port before the guard knows why: the code wins if it is there, else the guard's reason.
 */
async function exitCodeOf(
  result: Promise<number>,
  guarded: AbortSignal,
  user: AbortSignal,
): Promise<number> {
  try {
    return await raceAbort(result, guarded);
  } catch (error) {
    if (user.aborted) throw abortError(user);
    const late = await within(result.catch(() => undefined), 500);
    if (late !== undefined) return late;
    await within(raceAbort(new Promise(() => {}), guarded).catch(() => {}), 1000);
    throw guarded.aborted ? abortError(guarded) : error;
  }
}

/** What the command finds in its environment; nothing of the host's leaks in. */
const EXEC_ENV: Readonly<Record<string, string>> = {
  PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  HOME: "/root",
  TERM: "xterm",
  LANG: "C.UTF-8",
};

/** The command's own folders, of which those in the user's data tell whose they are. Disposing removes them. */
async function makeFolders() {
  await ensureRuntimeDir();
  await sweepExec();
  const random = crypto.randomUUID().slice(0, 8);
  // Also the name of the folder of sockets, whose paths have to be short.
  const id = `exec-${random}`;
  await using stack = new AsyncDisposableStack();
  const make = async (parent: string, name: string) => {
    await ensurePrivateDir(parent);
    const path = join(parent, name);
    await Deno.mkdir(path, { mode: 0o700 });
    stack.defer(() => Deno.remove(path, { recursive: true }).catch(() => {}));
    return path;
  };
  const dir = await make(execDir(), ownedName("exec-", random));
  const sockets = await make(runtimeDir(), id);
  const made = stack.move();
  return { id, dir, sockets, [Symbol.asyncDispose]: () => made.disposeAsync() };
}

const execDir = () => join(dataDir(), "exec");

/** Removes the folders of commands that were killed; their VMs ended with them. */
async function sweepExec(): Promise<void> {
  try {
    for await (const { name } of Deno.readDir(execDir())) {
      const random = orphanId("exec-", name);
      if (random === undefined) continue;
      for (const dir of [join(runtimeDir(), `exec-${random}`), join(execDir(), name)]) {
        await Deno.remove(dir, { recursive: true }).catch(() => {});
      }
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

async function connectStdio(
  path: string,
  signal: AbortSignal,
): Promise<Disposable & { readonly conn: Deno.UnixConn }> {
  const conn = await waitFor({
    what: "the VM's stdio port",
    probe: () => connectUnix(path),
    timeoutMs: 5000,
    intervalMs: 5,
    signal,
  });
  return {
    conn,
    [Symbol.dispose]() {
      try {
        conn.close();
      } catch {
        // The VM closed it first.
      }
    },
  };
}

/** Refuses an empty program name before anything starts. @throws GatewayError `usage`. */
export function checkExecProgram(program: string): void {
  if (program !== "" && !program.includes("\0")) return;
  throw new GatewayError({
    code: "usage",
    what: `Cannot run the program "${program}"`,
    why: "its name is empty or holds a NUL byte",
    fix: "name a program of the guest, such as --exec /bin/true",
  });
}
