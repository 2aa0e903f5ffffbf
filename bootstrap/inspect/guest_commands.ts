/**
 * The commands that reach into a running instance: exec, shell, cp, logs.
 * It must not start or stop anything but the programs that carry the command (ssh, scp, tail).
 *
 * @module
 */
import { runSsh } from "../../net/guest_command.ts";
import { execToken, scpArgs, signalWords, sshArgs, sshConfigPath } from "../../net/ssh.ts";
import { CLUSTER_LOG } from "../../rootfs/contract.ts";
import { usageError } from "../../vm/base/error.ts";
import type { InstancePaths } from "../../vm/base/layout.ts";
import { LogReader } from "../../vm/base/log_file.ts";
import { spawnChild, which } from "../../vm/base/process.ts";
import { pause } from "../../vm/base/wait.ts";
import { requireInstance } from "../../vm/instance/instance.ts";
import { connectInstance } from "../run/connection.ts";
import { type Output, runWrapped } from "./wrapped.ts";

/**
 * Runs a command in the guest with our own stdin, stdout and stderr; no words give a login shell. Signals reach the
 * program in the guest. Returns its exit code, 128 and the signal's number for a program that a signal killed.
 *
 * @throws GatewayError `instance-unknown`, `instance-stopped`, `tool-missing`.
 */
export async function execInGuest(
  name: string,
  words: readonly string[],
  options: { readonly tty: boolean; readonly output?: Output },
): Promise<number> {
  const { paths, config } = await connectInstance(name);
  if (words.length === 0) return await runWrapped("ssh", sshArgs(config, name, words, options));
  const token = execToken();
  const { tty, output } = options;
  return await runWrapped("ssh", sshArgs(config, name, words, { tty, token }), {
    passOn: (signal) => signalInGuest(name, paths, token, signal),
    output,
  });
}

/** The bound of passing a signal on: one short command over the connection that is open. */
const SIGNAL_TIMEOUT_MS = 5000;

async function signalInGuest(
  name: string,
  paths: InstancePaths,
  token: string,
  signal: string,
): Promise<boolean> {
  try {
    const args = sshArgs(sshConfigPath(paths.sshDir), name, signalWords(token, signal));
    const { code } = await runSsh({ args, check: false, timeoutMs: SIGNAL_TIMEOUT_MS });
    return code === 0;
  } catch {
    return false;
  }
}

/**
 * Copies between host and guest; exactly one side is NAME:PATH.
 *
 * @throws GatewayError `usage`, `instance-unknown`, `instance-stopped`.
 */
export async function copy(
  source: string,
  destination: string,
  options: { readonly recursive: boolean },
): Promise<number> {
  const sides = [source, destination].map((side) => /^([a-z0-9][-a-z0-9]*):/.exec(side)?.[1]);
  const [name, other] = sides.filter((side) => side !== undefined);
  if (name === undefined || other !== undefined) {
    throw usageError(
      `Cannot copy "${source}" to "${destination}"`,
      name === undefined ? "neither side is NAME:PATH" : "both sides are in a guest",
      "write the guest's side as NAME:PATH, such as default:/root/",
    );
  }
  const { config } = await connectInstance(name);
  return await runWrapped("scp", scpArgs(config, source, destination, options));
}

/** Which log. */
export type LogSource = "console" | "cluster" | "gvproxy" | "vmm" | "events";

/**
 * Prints the cluster's own log by a program in the guest, through `output` when it is given, else straight to our stdout.
 * Returns the program's exit code.
 */
export async function clusterLog(
  name: string,
  follow: boolean,
  output?: Output,
): Promise<number> {
  const words = follow ? ["tail", "-n", "200", "-F", CLUSTER_LOG] : ["cat", CLUSTER_LOG];
  return await execInGuest(name, words, { tty: false, output });
}

/** What a program exits with whose reader went away: 128 and the number of SIGPIPE. */
export const READER_GONE = 141;

/** What `logs` does with a log. */
export interface LogOptions {
  readonly source: Exclude<LogSource, "cluster">;
  readonly follow: boolean;
  /** Writes to stdout; false when nobody reads it any more. */
  readonly write: (bytes: Uint8Array) => boolean;
  readonly signal: AbortSignal;
}

/** Writes a log, of a long one its end, and follows it as it grows when requested. Returns the exit code. */
export async function logs(name: string, options: LogOptions): Promise<number> {
  const { source, follow, signal } = options;
  const { paths } = await requireInstance(name);
  const path = {
    console: paths.consoleLog,
    gvproxy: paths.gvproxyLog,
    vmm: paths.vmmLog,
    events: paths.eventsFile,
  }[source];
  await using reader = follow ? watchReader() : undefined;
  const end = AbortSignal.any([signal, ...(reader ? [reader.gone] : [])]);
  try {
    return await writeLog(path, options, end) ? 0 : READER_GONE;
  } catch (error) {
    // Ctrl-C is how one leaves a log that is followed.
    if (signal.aborted) return 130;
    if (end.aborted) return READER_GONE;
    throw error;
  }
}

/**
 * Aborts when a pipe that stdout is loses its reader, which one's own writes show only when there is something to write.
 * tail looks after the pipe that it has got as stdout; one that does not is of no harm.
 */
function watchReader(): (AsyncDisposable & { readonly gone: AbortSignal }) | undefined {
  if (!Deno.statSync("/dev/fd/1").isFifo || which("tail") === undefined) return undefined;
  const gone = new AbortController();
  const tail = spawnChild("tail", { args: ["-f", "/dev/null"], stdout: "inherit" });
  void tail.exited.then(() => gone.abort());
  return { gone: gone.signal, [Symbol.asyncDispose]: () => tail[Symbol.asyncDispose]() };
}

const FOLLOW_INTERVAL_MS = 200;

/** False when the reader went away. */
async function writeLog(path: string, options: LogOptions, end: AbortSignal): Promise<boolean> {
  const reader = new LogReader(path);
  for (;;) {
    if (!options.write(await reader.read())) return false;
    if (!options.follow) return true;
    await pause(FOLLOW_INTERVAL_MS, end);
  }
}
