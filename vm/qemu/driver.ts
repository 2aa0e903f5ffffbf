/**
 * This room drives QEMU: its arguments, monitor, probe boot, confinement, and saved memory (ramshim is its C library).
 * What a machine has is decided in bootstrap/plan. Read argv.ts next, then save.ts.
 *
 * The QEMU driver: finds QEMU, finds out by a real boot whether hardware virtualization works, starts a spec.
 * It must not choose devices or sizes (planVm does) and must not know Kubernetes.
 *
 * @module
 */
import { basename, dirname, join } from "@std/path";
import { type Arch, hostArch } from "../base/arch.ts";
import { describeError, GatewayError } from "../base/error.ts";
import type { HostTool } from "../base/host_tools.ts";
import { ensurePrivateDir } from "../base/layout.ts";
import { readTail } from "../base/log_file.ts";
import { run, which } from "../base/process.ts";
import { type LimitedSpan, limitRecords } from "../base/record_limit.ts";
import { pause, within } from "../base/wait.ts";
import type { AcceleratorVerdict, CandidateQuestion } from "../machine/accelerator.ts";
import { checkKernelFile } from "../machine/kernel_file.ts";
import type { VmSpec } from "../machine/spec.ts";
import type { RunningVm, StartOptions, VmCommand, Vmm, VmmCheck } from "../machine/vmm.ts";
import { spawnVmm, type VmmChild } from "../machine/vmm_child.ts";
import { machineType, qemuArgv, type QemuMachine, qmpPath, ramPlaceholder } from "./argv.ts";
import { qemuConfinement } from "./confinement.ts";
import { hostCpu } from "./host_cpu.ts";
import { OutgoingFolders } from "./outgoing.ts";
import { probeAccelerator } from "./probe.ts";
import { QmpClient } from "./qmp.ts";
import { askConfinement, checkLayer, trimCode } from "./ram_layer.ts";
import { QemuSaver, ramSocket } from "./save.ts";
import { loadDevices } from "./state.ts";

const TOOLS: Readonly<Record<Arch, HostTool>> = {
  amd64: { program: "qemu-system-x86_64", debian: "qemu-system-x86", brew: "qemu" },
  arm64: { program: "qemu-system-aarch64", debian: "qemu-system-arm", brew: "qemu" },
};

/** The program for guests of a processor, and its Debian package. */
export function qemuTool(arch: Arch): HostTool {
  return TOOLS[arch];
}

/** What the driver needs besides the host. */
export interface QemuOptions {
  /** The guest's processor; this host's by default. */
  readonly arch?: Arch;
  /** The kernel the probe boots. */
  readonly kernelPath: string;
  /** Where the probe's verdict is kept. */
  readonly cacheDir: string;
  /** The probe's bound; by default 20 s. */
  readonly probeTimeoutMs?: number;
  /** By default the host is looked at. */
  readonly candidate?: CandidateQuestion;
  /** The library that confines QEMU and makes the guest's memory out of layers; without it no guest can be saved. */
  readonly ramshim?: string;
}

/** QEMU: its microvm machine for amd64, and virt for arm64. */
export class QemuVmm implements Vmm {
  readonly name = "qemu";
  readonly supports: Vmm["supports"];
  #machine: QemuMachine | undefined;

  constructor(private readonly options: QemuOptions) {
    this.supports = { snapshot: options.ramshim !== undefined, net: ["gvproxy"] };
  }

  async check(options: StartOptions): Promise<VmmCheck> {
    const { arch = hostArch() } = this.options;
    const tool = qemuTool(arch);
    const program = which(tool.program);
    if (program === undefined) {
      return {
        usable: false,
        description: "QEMU",
        accelerator: "none",
        why: `${tool.program} is not on this host`,
        fix: `install it: apt-get install -y --no-install-recommends ${tool.debian}`,
      };
    }
    const { stdout } = await run(program, { args: ["--version"], timeoutMs: 10_000 });
    const version = /version (\d+\.\d+(\.\d+)?)/.exec(stdout)?.[1] ?? "of unknown version";
    const verdict = arch !== hostArch()
      ? foreign(arch)
      : await probeAccelerator({ program, version, ...this.options, ...options, arch });
    this.#machine = { program, accelerator: verdict.accelerator };
    const how = verdict.accelerator === "tcg"
      ? "TCG (emulation)"
      : verdict.accelerator.toUpperCase();
    const type = machineType(verdict.accelerator, arch);
    const machine = `${type} ${await hostCpu(verdict.accelerator)}`;
    return { usable: true, description: `QEMU ${version}, ${how}`, ...verdict, machine };
  }

  async start(spec: VmSpec, options: StartOptions): Promise<RunningVm> {
    if (!this.#machine) {
      const check = await this.check(options);
      if (!this.#machine) {
        throw new GatewayError({
          code: "vmm-missing",
          what: "Cannot start a VM with QEMU",
          why: check.why,
          fix: check.fix,
        });
      }
    }
    checkKernelFile(spec.kernel);
    await makeLog(spec);
    for (const path of spec.ram?.layers ?? []) await checkLayer(path, spec.memoryMiB);
    await ensurePrivateDir(spec.runtimeDir);
    const { program } = this.#machine;
    await using own = new AsyncDisposableStack();
    const outgoing = spec.ram
      ? own.use(await OutgoingFolders.make(dirname(spec.vmmLogPath)))
      : undefined;
    const confine = await qemuConfinement(spec, program, outgoing?.paths ?? []);
    const child = spawnVmm(program, qemuArgv(spec, this.#machine), {
      logPath: spec.vmmLogPath,
      clearEnv: true,
      ...preloading(spec, this.options.ramshim, confine),
    });
    options.span.log("QEMU started", { pid: child.pid });
    const command = replayCommand(spec, this.#machine, this.options.ramshim, confine);
    const vm = new QemuVm(child, spec, command, options.span, outgoing);
    own.move();
    try {
      await vm.connect(options.signal);
      if (spec.ram) await vm.checkLibrary(options.signal);
      else if (this.options.ramshim) await checkLoaded(child.pid, this.options.ramshim);
      if (spec.incoming) await vm.load(spec.incoming.devicesPath, options);
      return vm;
    } catch (error) {
      await vm[Symbol.asyncDispose]();
      if (options.signal.aborted) throw error;
      throw new GatewayError({
        code: "vmm-failed",
        what: `Cannot start QEMU for "${spec.name}"`,
        why: (await vmmLogTail(spec)) || describeError(error),
        fix: `replay it by hand: read ${join(spec.vmmLogPath, "..", "vm.json")}`,
        cause: error,
      });
    }
  }
}

function foreign(arch: Arch): AcceleratorVerdict {
  return {
    accelerator: "tcg",
    why: `the guest's processor is ${arch} and this host's is ${hostArch()}`,
    fix: `run it on an ${arch} host: emulation is many times slower`,
  };
}

/** While the host's disk is full, each write of the guest can stop it again. */
const SPACE_RECORDS = { what: "pauses for space", records: 100, characters: 100_000 };

/** A VM that runs in QEMU; also the handle for its monitor. */
export class QemuVm implements RunningVm {
  readonly pid: number;
  readonly exited: RunningVm["exited"];
  #qmp: QmpClient | undefined;
  #saver: QemuSaver | undefined;
  readonly #spaceRecords: LimitedSpan;
  #saving = false;
  #confinement: string | undefined;

  constructor(
    private readonly child: VmmChild,
    private readonly spec: VmSpec,
    readonly command: VmCommand,
    private readonly span: LimitedSpan,
    /** Of a guest that can be saved. */
    private readonly outgoing: OutgoingFolders | undefined,
    /** How often a write is tried again that found the disk full; tests pass less. */
    private readonly spaceIntervalMs = 1000,
  ) {
    this.#spaceRecords = limitRecords(span, SPACE_RECORDS);
    this.pid = child.pid;
    this.exited = child.exited;
  }

  /** The monitor; open after start. */
  get qmp(): QmpClient {
    if (!this.#qmp) throw new Error("the monitor is not connected");
    return this.#qmp;
  }

  /** Opens the monitor, or fails as soon as QEMU ends. */
  async connect(signal: AbortSignal): Promise<void> {
    const gone = new AbortController();
    this.exited.then(({ code }) => gone.abort(new Error(`QEMU ended with code ${code}`)));
    const either = AbortSignal.any([signal, gone.signal]);
    const qmp = await QmpClient.connect(qmpPath(this.spec), either);
    this.#qmp = qmp;
    let waiting = false;
    qmp.onEvent(({ event, data }) => {
      if (event !== "BLOCK_IO_ERROR" || data?.nospace !== true || waiting) return;
      waiting = true;
      void this.#waitForSpace(qmp).finally(() => waiting = false);
    });
  }

  /**
   * QEMU stops a guest whose write finds the host's disk full, and keeps the write. It is tried again until there is
   * space; nothing in the guest is lost. Ends with QEMU.
   */
  async #waitForSpace(qmp: QmpClient): Promise<void> {
    this.#spaceRecords.warn("the host's disk is full: the guest stands still until there is space");
    const over = new AbortController();
    void this.exited.then(() => over.abort());
    while (!over.signal.aborted) {
      await pause(this.spaceIntervalMs, over.signal).catch(() => {});
      // A guest that is being saved goes on when that is done.
      if (this.#saving) continue;
      const state = await qmp.execute("query-status").catch(() => undefined) as
        | { status?: string }
        | undefined;
      if (state?.status !== "io-error") break;
      await qmp.execute("cont").catch(() => {});
    }
    if (!over.signal.aborted) this.#spaceRecords.log("the guest goes on");
  }

  /**
   * Without the library QEMU would run unconfined, and with the guest's memory in a file. Logs how it is confined.
   */
  async checkLibrary(signal: AbortSignal): Promise<void> {
    const confinement = await askConfinement(ramSocket(this.spec), signal);
    if (confinement === undefined) throw new Error("QEMU runs without its memory library");
    this.span.log(`QEMU is confined by ${confinement}`);
    this.#confinement = confinement;
  }

  /** Known after {@linkcode checkLibrary}. */
  get confinement(): string | undefined {
    return this.#confinement;
  }

  /** Goes on from device state; the memory file has the rest. */
  async load(
    devicesPath: string,
    { signal, onContinue }: Pick<StartOptions, "signal" | "onContinue">,
  ): Promise<void> {
    await loadDevices(this.qmp, this.spec.runtimeDir, devicesPath, signal);
    signal.throwIfAborted();
    onContinue?.();
    // Without the signal: a guest that QEMU was told to continue runs, and has to be stopped as one.
    await this.qmp.execute("cont");
  }

  get save(): RunningVm["save"] {
    const { outgoing } = this;
    if (!outgoing) return undefined;
    return async (target, signal) => {
      this.#saver ??= new QemuSaver(this.qmp, this.spec, outgoing);
      this.#saving = true;
      const parts = await this.#saver.save(target, signal).finally(() => this.#saving = false);
      if (target.then === "end") await this.stop(5000);
      return parts;
    };
  }

  get trim(): RunningVm["trim"] {
    if (!this.spec.ram) return undefined;
    return (atMostMiB, signal) => trimCode(ramSocket(this.spec), atMostMiB, signal);
  }

  async keep(): Promise<void> {
    await this.child.keep();
  }

  async stop(timeoutMs: number): Promise<Awaited<RunningVm["exited"]>> {
    // `quit` lets QEMU flush its disks; a signal is the second choice.
    await this.#qmp?.execute("quit", {}, undefined, 1000).catch(() => {});
    const early = await within(this.exited, Math.min(timeoutMs, 2000));
    return early ?? await this.child.stop(timeoutMs);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop(2000).catch(() => {});
    this.#qmp?.[Symbol.dispose]();
    await this.outgoing?.[Symbol.asyncDispose]();
  }
}

/**
 * What vm/qemu/ramshim reads. The loader splits LD_PRELOAD at spaces and colons and knows no quotes, so QEMU starts in the
 * library's folder and the library is named from there. All other paths of a VMM are absolute.
 */
export function preloading(
  spec: Pick<VmSpec, "ram" | "runtimeDir">,
  ramshim: string | undefined,
  confine: readonly string[],
): { readonly cwd?: string; readonly preload?: string; readonly env: Record<string, string> } {
  if (ramshim === undefined) {
    if (spec.ram) throw new Error("a spec with memory layers needs the ramshim library");
    return { env: {} };
  }
  const memory = spec.ram && {
    G_SLICE: "always-malloc",
    GATEWAY_RAM_FILE: ramPlaceholder(spec),
    GATEWAY_RAM_LAYERS: spec.ram.layers.join("\n"),
    GATEWAY_RAM_SOCKET: ramSocket(spec),
  };
  return {
    cwd: dirname(ramshim),
    preload: `./${basename(ramshim)}`,
    env: { GATEWAY_RAM_LIBRARY: ramshim, GATEWAY_CONFINE: confine.join("\n"), ...memory },
  };
}

/** A guest that is not saved has no socket to ask; that QEMU has the library that confines it is seen in its memory. */
async function checkLoaded(pid: number, ramshim: string): Promise<void> {
  const maps = await Deno.readTextFile(`/proc/${pid}/maps`);
  if (!maps.includes(`/${basename(ramshim)}`)) {
    throw new Error("QEMU runs without the library that confines it");
  }
}

/** The command of a guest that boots: memory that was saved fits no disk that has been written since. */
function replayCommand(
  spec: VmSpec,
  machine: QemuMachine,
  ramshim: string | undefined,
  confine: readonly string[],
): VmCommand {
  const cold: VmSpec = { ...spec, ram: spec.ram && { layers: [] }, incoming: null };
  const { cwd, preload, env } = preloading(cold, ramshim, confine);
  return {
    program: machine.program,
    args: qemuArgv(cold, machine),
    env: { ...env, ...preload !== undefined && { LD_PRELOAD: preload } },
    cwd,
  };
}

/** It may not make the file itself. A guest that goes on has more to say in the same log. */
async function makeLog({ consoleLogPath, incoming }: VmSpec): Promise<void> {
  using _file = await Deno.open(consoleLogPath, {
    write: true,
    create: true,
    truncate: incoming === null,
    mode: 0o600,
  });
}

/** The last line QEMU printed, for the `why` of an error. */
async function vmmLogTail(spec: VmSpec): Promise<string> {
  const text = await readTail(spec.vmmLogPath).catch(() => "");
  return text.trim().split("\n").at(-1)?.slice(0, 400) ?? "";
}
