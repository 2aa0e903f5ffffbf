/**
 * This room drives libkrun: finding and building the library, the probe boot, and the child that becomes the VM. The C
 * functions are in ffi. Read child.ts next, then config.ts.
 *
 * The libkrun driver: finds a library, finds out by a real boot whether it works here, starts a spec in a child of its own.
 * It must not open the library: that ends with this process becoming the VM.
 *
 * @module
 */
import { dirname, join } from "@std/path";
import { LIBRARY_VARIABLE } from "../../ffi/library.ts";
import { writeCacheFile } from "../base/durable.ts";
import { describeError, GatewayError } from "../base/error.ts";
import { exists } from "../base/layout.ts";
import { readTail } from "../base/log_file.ts";
import type { ChildExit } from "../base/process.ts";
import { settleWithin } from "../base/wait.ts";
import {
  candidateAccelerator,
  type CandidateQuestion,
  PROBE_TIMEOUT_MS,
} from "../machine/accelerator.ts";
import type { VmSpec } from "../machine/spec.ts";
import type { RunningVm, StartOptions, VmCommand, Vmm, VmmCheck } from "../machine/vmm.ts";
import { spawnVmm, type VmmChild } from "../machine/vmm_child.ts";
import { findFirmware, findLibraries, noLibrary } from "./find.ts";
import { type LibkrunVerdict, probeLibkrun } from "./probe.ts";
import { ensureSignedRuntime } from "./signed_runtime.ts";

/** A command line. */
export interface ChildCommand {
  readonly program: string;
  readonly args: readonly string[];
}

/** What the driver needs besides the host. */
export interface LibkrunOptions {
  /** The kernel the probe boots. */
  readonly kernelPath: string;
  /** Where the probe's verdict is kept. */
  readonly cacheDir: string;
  /** The probe's bound; by default 20 s. */
  readonly probeTimeoutMs?: number;
  /** The command whose process becomes the VM of a plan. */
  readonly child: (plan: string, options: StartOptions) => ChildCommand | Promise<ChildCommand>;
  /** `--libkrun`. */
  readonly flag?: string;
  /** Our own build, if there is one. */
  readonly artifact?: string;
  /** By default {@linkcode candidateAccelerator}. */
  readonly candidate?: CandidateQuestion;
}

/** libkrun on KVM or Hypervisor.framework. */
export class LibkrunVmm implements Vmm {
  readonly name = "libkrun";
  readonly supports = { snapshot: false, net: ["gvproxy", "tsi"] } as const;
  #library: string | undefined;

  constructor(private readonly options: LibkrunOptions) {}

  async check(options: StartOptions): Promise<VmmCheck> {
    const unusable = (why: string, fix: string) =>
      ({ usable: false, description: "libkrun", accelerator: "none", why, fix }) as const;
    const { flag, artifact } = this.options;
    let candidates: ReturnType<typeof findLibraries>;
    try {
      const variable = Deno.env.get(LIBRARY_VARIABLE);
      candidates = findLibraries({ flag, variable, artifact, uid: Deno.uid() });
    } catch (error) {
      if (!(error instanceof GatewayError)) throw error;
      return unusable(error.message, error.fix);
    }
    if (candidates.length === 0) {
      const error = noLibrary();
      return unusable(`there is no libkrun: ${error.why}`, error.fix);
    }
    const host = await (this.options.candidate ?? candidateAccelerator)();
    if (typeof host !== "string") return unusable(host.why, host.fix);
    let verdict: LibkrunVerdict | undefined;
    for (const { path, source } of candidates) {
      verdict = await probeLibkrun({
        libraryPath: path,
        kernelPath: this.options.kernelPath,
        cacheDir: this.options.cacheDir,
        timeoutMs: this.options.probeTimeoutMs ?? PROBE_TIMEOUT_MS,
        start: (spec, inner) => this.#start(spec, path, inner),
        ...options,
      });
      if (!verdict.usable) continue;
      this.#library = path;
      const description = `libkrun ${verdict.version}, ${host.toUpperCase()}`;
      const why = `${verdict.why} (${source}: ${path})`;
      const firmware = findFirmware(path);
      return { usable: true, description, accelerator: "libkrun", why, fix: "", firmware };
    }
    return unusable(verdict!.why, verdict!.fix);
  }

  async start(spec: VmSpec, options: StartOptions): Promise<RunningVm> {
    if (this.#library === undefined) {
      const check = await this.check(options);
      if (this.#library === undefined) {
        throw new GatewayError({
          code: "vmm-missing",
          what: "Cannot start a VM with libkrun",
          why: check.why,
          fix: check.fix,
        });
      }
    }
    return await this.#start(spec, this.#library, options);
  }

  async #start(spec: VmSpec, library: string, options: StartOptions): Promise<RunningVm> {
    // Exactly what the child reads, so that the boot can be replayed.
    const plan = join(dirname(spec.consoleLogPath), "vm.json");
    await writeCacheFile(plan, JSON.stringify(spec, null, 2) + "\n");
    await writeCacheFile(spec.consoleLogPath, "");
    const sockets = spec.consolePorts.map(({ socketPath }) => socketPath);
    await removeAll(sockets);
    const command = await this.options.child(plan, options);
    const program = await ensureSignedRuntime(command.program, this.options.cacheDir);
    const env = { [LIBRARY_VARIABLE]: library, ...loaderEnv(library) };
    const child = spawnVmm(program, command.args, { logPath: spec.vmmLogPath, env });
    options.span.log("libkrun's process started", { pid: child.pid });
    const vm = new LibkrunVm(child, sockets, { program, args: command.args, env });
    try {
      await vm.listening(options.signal);
      return vm;
    } catch (error) {
      await vm[Symbol.asyncDispose]();
      if (options.signal.aborted) throw error;
      throw startError(spec, await childWords(spec.vmmLogPath), plan, error);
    }
  }
}

/**
 * macOS finds a library by its install name, which for libkrunfw is not where Homebrew of another prefix has it; there
 * the loader is told the folder.
 */
export function loaderEnv(library: string, os: string = Deno.build.os): Record<string, string> {
  return os === "darwin" ? { DYLD_FALLBACK_LIBRARY_PATH: dirname(library) } : {};
}

/** A VM that runs in a child of ours. */
class LibkrunVm implements RunningVm {
  readonly pid: number;
  readonly exited: Promise<ChildExit>;

  constructor(
    private readonly child: VmmChild,
    private readonly sockets: readonly string[],
    readonly command: VmCommand,
  ) {
    this.pid = child.pid;
    // The child cannot remove its sockets: libkrun ends it with the guest.
    this.exited = child.exited.then(async (exit) => (await removeAll(sockets), exit));
  }

  /** Resolves when the host's ends can be connected, or fails as soon as the child ends. */
  async listening(signal: AbortSignal): Promise<void> {
    const [first] = this.sockets;
    if (first === undefined) return;
    const gone = new AbortController();
    void this.child.exited.then(({ code, signal }) =>
      gone.abort(
        new GatewayError({
          code: "vmm-failed",
          what: "Cannot connect to libkrun's ports",
          why: `its process ended (${signal ?? `code ${code}`}) and printed nothing`,
          fix: "read the VMM's log in the instance's folder",
        }),
      )
    );
    // Told by the system and not asked for again and again: the child needs the processor more than we do. A
    // connection would be taken for the supervisor's own, so the sockets are only looked at.
    using changes = Deno.watchFs(dirname(first), { recursive: false });
    await settleWithin(this.#seen(changes), {
      what: "libkrun's ports",
      timeoutMs: 30_000,
      signal: AbortSignal.any([signal, gone.signal]),
      code: "vmm-failed",
    });
  }

  async #seen(changes: AsyncIterable<unknown>): Promise<void> {
    const all = async () => (await Promise.all(this.sockets.map(exists))).every((there) => there);
    if (await all()) return;
    for await (const _ of changes) if (await all()) return;
  }

  async keep(): Promise<void> {
    await this.child.keep();
  }

  async stop(timeoutMs: number): Promise<ChildExit> {
    await this.child.stop(timeoutMs);
    return await this.exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop(2000).catch(() => {});
  }
}

async function removeAll(paths: readonly string[]): Promise<void> {
  for (const path of paths) await Deno.remove(path).catch(() => {});
}

/** What the child said about its end: the lines of its own error, or the last line. */
export interface ChildWords {
  readonly what?: string;
  readonly why: string;
  readonly fix?: string;
}

/** Reads the child's log. */
async function childWords(logPath: string): Promise<ChildWords> {
  const text = await readTail(logPath).catch(() => "");
  const line = (pattern: RegExp) => pattern.exec(text)?.[1]?.slice(0, 400);
  const why = line(/^ {2}why: (.*)$/m);
  if (why === undefined) return { why: text.trim().split("\n").at(-1)?.slice(0, 400) ?? "" };
  return { what: line(/^error: (.*)$/m), why, fix: line(/^ {2}fix: (.*)$/m) };
}

function startError(spec: VmSpec, words: ChildWords, plan: string, cause: unknown): GatewayError {
  return new GatewayError({
    code: "vmm-failed",
    what: words.what ?? `Cannot start libkrun for "${spec.name}"`,
    why: words.why || (cause instanceof GatewayError ? cause.why : describeError(cause)),
    fix: words.fix ?? `replay it by hand: read ${plan}`,
    cause,
  });
}
