/**
 * The only place that starts programs (Deno.Command): bounded runs and owned children.
 * It must not put secrets in argument lists or environments; callers pass those by files of mode 0600.
 *
 * @module
 */
import { collect, feed } from "./child_streams.ts";
import { abortError, describeError, type ErrorCode, GatewayError } from "./error.ts";
import { within } from "./wait.ts";

/** A program run to its end. */
export interface RunOptions {
  readonly args: readonly string[];
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Start from an empty environment instead of ours. */
  readonly clearEnv?: boolean;
  readonly stdin?: Uint8Array | string | ReadableStream<Uint8Array>;
  /** stdout and stderr are appended to this file instead of being returned. */
  readonly logPath?: string;
  /** The most that is kept of stdout, and of stderr; a program that prints more is ended. Default 16 MiB. */
  readonly maxOutputBytes?: number;
  /** Called with each piece of stdout and stderr, beside the log. */
  readonly onOutput?: (text: string) => void;
  readonly signal?: AbortSignal;
  readonly timeoutMs?: number;
  /** Added to the nice value; 10 for builds. */
  readonly niceness?: number;
  /** False: a non-zero exit is returned instead of thrown. */
  readonly check?: boolean;
  /** Code of the error for a non-zero exit; `process-failed` by default. */
  readonly code?: ErrorCode;
  /** The error's "Cannot …" line. */
  readonly what?: string;
  /** The error's fix. */
  readonly fix?: string;
}

/** How a run ended. */
export interface RunResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly stdoutBytes: Uint8Array;
}

const MAX_OUTPUT_BYTES = 16 * 1024 * 1024;

/**
 * Runs a program and waits for its end. On abort or timeout its whole process group gets SIGTERM, then SIGKILL after 2 s.
 *
 * @throws GatewayError `tool-missing` when the program is not there, `process-failed` (or the given code) on a non-zero
 * exit or too much output, `timeout`, or the signal's reason.
 */
export async function run(program: string, options: RunOptions): Promise<RunResult> {
  if (options.signal?.aborted) throw abortError(options.signal);
  const child = spawnChild(program, {
    ...options,
    stdin: options.stdin === undefined ? "null" : "piped",
    stdout: "piped",
    stderr: "piped",
    ownGroup: true,
  });
  const kill = () => child.stop(2000);
  const { logPath, onOutput, maxOutputBytes: maxBytes = MAX_OUTPUT_BYTES } = options;
  let flooded = false;
  const onFlood = () => {
    flooded = true;
    void kill();
  };
  options.signal?.addEventListener("abort", kill, { once: true });
  let timedOut = false;
  const timer = options.timeoutMs === undefined ? undefined : setTimeout(() => {
    timedOut = true;
    kill();
  }, options.timeoutMs);
  const log = logPath
    ? Deno.openSync(logPath, { create: true, append: true, mode: 0o600 })
    : undefined;
  try {
    const [stdoutBytes, stderrBytes] = await Promise.all([
      collect(child.stdout!, { log, onOutput, maxBytes, onFlood }),
      collect(child.stderr!, { log, onOutput, maxBytes, onFlood }),
      options.stdin === undefined ? undefined : feed(child.stdin!, options.stdin),
    ]);
    const status = await child.exited;
    if (options.signal?.aborted) throw abortError(options.signal);
    if (flooded) throw runError(program, options, `it printed more than ${maxBytes} bytes`);
    const stderr = new TextDecoder().decode(stderrBytes);
    if (timedOut) {
      throw runError(program, options, `it did not end within ${options.timeoutMs} ms`, "timeout");
    }
    if (status.code !== 0 && options.check !== false) {
      throw runError(program, options, exitWords(options, status.code, stderr));
    }
    const stdout = new TextDecoder().decode(stdoutBytes);
    return { code: status.code, stdout, stderr, stdoutBytes };
  } finally {
    clearTimeout(timer);
    options.signal?.removeEventListener("abort", kill);
    log?.close();
    await child[Symbol.asyncDispose]();
  }
}

function runError(
  program: string,
  options: RunOptions,
  why: string,
  code: ErrorCode = options.code ?? "process-failed",
): GatewayError {
  return new GatewayError({
    code,
    what: options.what ?? `Cannot run "${program}"`,
    why,
    fix: options.fix ??
      (options.logPath ? `read ${options.logPath}` : `run it by hand: ${program} …`),
  });
}

function exitWords({ logPath }: RunOptions, code: number, stderr: string): string {
  const tail = (logPath ? tailOfFile(logPath) : stderr).trim().split("\n").slice(-3).join(" | ");
  return `it ended with code ${code}${tail ? `: ${tail}` : ""}`;
}

function tailOfFile(path: string): string {
  try {
    using file = Deno.openSync(path);
    const size = file.statSync().size;
    file.seekSync(Math.max(0, size - 2000), Deno.SeekMode.Start);
    const buffer = new Uint8Array(2000);
    const read = file.readSync(buffer) ?? 0;
    return new TextDecoder().decode(buffer.subarray(0, read));
  } catch {
    return "";
  }
}

/** A program that goes on running, owned by the caller. */
export interface SpawnOptions {
  readonly args: readonly string[];
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly clearEnv?: boolean;
  /** Default "null". */
  readonly stdin?: "piped" | "null" | "inherit";
  readonly stdout?: "piped" | "null" | "inherit";
  readonly stderr?: "piped" | "null" | "inherit";
  readonly niceness?: number;
  /** Leads a process group of its own: a Ctrl-C on our terminal does not reach it, and stop() ends all of it. */
  readonly ownGroup?: boolean;
  /** May outlive us. */
  readonly detached?: boolean;
}

/** How a child ended. */
export interface ChildExit {
  readonly code: number;
  readonly signal: string | null;
}

/** An owned child process; disposing stops it. */
export interface ChildProcess extends AsyncDisposable {
  readonly pid: number;
  /** Never rejects. */
  readonly exited: Promise<ChildExit>;
  readonly stdin: WritableStream<Uint8Array> | undefined;
  readonly stdout: ReadableStream<Uint8Array> | undefined;
  readonly stderr: ReadableStream<Uint8Array> | undefined;
  /** SIGTERM, then SIGKILL after the bound; resolves when it is gone. Safe to call again. */
  stop(timeoutMs: number): Promise<ChildExit>;
  /** Lets our event loop end although the child runs. */
  unref(): void;
}

/**
 * Starts a program.
 *
 * @throws GatewayError `tool-missing` when there is no such program.
 */
export function spawnChild(program: string, options: SpawnOptions): ChildProcess {
  const nice = options.niceness !== undefined;
  const command = new Deno.Command(nice ? "nice" : program, {
    args: nice ? ["-n", String(options.niceness), program, ...options.args] : [...options.args],
    cwd: options.cwd,
    env: options.env ? { ...options.env } : undefined,
    clearEnv: options.clearEnv,
    stdin: options.stdin ?? "null",
    stdout: options.stdout ?? "null",
    stderr: options.stderr ?? "null",
    detached: options.ownGroup || options.detached,
  });
  let child: Deno.ChildProcess;
  try {
    child = command.spawn();
  } catch (error) {
    throw new GatewayError({
      code: error instanceof Deno.errors.NotFound ? "tool-missing" : "process-failed",
      what: `Cannot start "${program}"`,
      why: describeError(error),
      fix: `install the program, or look at PATH`,
      cause: error,
    });
  }
  return new OwnedChild(child, options);
}

class OwnedChild implements ChildProcess {
  readonly pid: number;
  readonly exited: Promise<ChildExit>;
  readonly #child: Deno.ChildProcess;
  readonly #group: boolean;
  #gone = false;

  constructor(child: Deno.ChildProcess, private readonly options: SpawnOptions) {
    this.#child = child;
    this.pid = child.pid;
    this.#group = options.ownGroup === true || options.detached === true;
    this.exited = child.status.then(
      (status) => ({ code: status.code, signal: status.signal }),
      () => ({ code: 1, signal: null }),
    ).finally(() => this.#gone = true);
  }

  get stdin(): WritableStream<Uint8Array> | undefined {
    return this.options.stdin === "piped" ? this.#child.stdin : undefined;
  }

  get stdout(): ReadableStream<Uint8Array> | undefined {
    return this.options.stdout === "piped" ? this.#child.stdout : undefined;
  }

  get stderr(): ReadableStream<Uint8Array> | undefined {
    return this.options.stderr === "piped" ? this.#child.stderr : undefined;
  }

  async stop(timeoutMs: number): Promise<ChildExit> {
    this.#signal("SIGTERM");
    const early = await within(this.exited, timeoutMs);
    if (early) return early;
    this.#signal("SIGKILL");
    return await this.exited;
  }

  unref(): void {
    this.#child.unref();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#gone && !this.options.detached) await this.stop(2000);
  }

  #signal(signal: Deno.Signal): void {
    if (this.#gone) return;
    if (this.#group && signalProcess(-this.pid, signal)) return;
    signalProcess(this.pid, signal);
  }
}

/** Sends a signal; false when there is no such process (or group, for a negative pid). */
export function signalProcess(pid: number, signal: Deno.Signal): boolean {
  try {
    Deno.kill(pid, signal);
    return true;
  } catch {
    return false;
  }
}

/** All that a short program prints, while nothing else is done; undefined where it fails or is not there. */
export function printedBy(
  program: string,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
) {
  try {
    const { success, stdout } = new Deno.Command(program, { args: [...args], env, stderr: "null" })
      .outputSync();
    return success ? new TextDecoder().decode(stdout) : undefined;
  } catch {
    return undefined;
  }
}

/** Where a program is on PATH, or undefined. */
export function which(program: string): string | undefined {
  if (program.includes("/")) return isFile(program) ? program : undefined;
  const folders = (Deno.env.get("PATH") ?? "/usr/bin:/bin").split(":");
  // Tools such as mkfs live in sbin, which a plain user's PATH lacks.
  for (const folder of [...folders, "/usr/local/sbin", "/usr/sbin", "/sbin"]) {
    const path = `${folder}/${program}`;
    if (isFile(path)) return path;
  }
  return undefined;
}

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}
