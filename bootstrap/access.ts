/**
 * The commands that reach into a running instance: exec, shell, cp, kubectl, logs, port.
 * It must not start or stop anything but the programs that carry the command (ssh, scp, kubectl, tail).
 *
 * @module
 */
import { gvproxyApiSocket, GvproxyClient, type GvproxyForward } from "../net/gvproxy.ts";
import { hostPort, parseForward } from "../net/forward.ts";
import { scpArgs, sshArgs, sshConfigPath } from "../net/ssh.ts";
import { usageError } from "../vm/error.ts";
import { requireInstance, requireRunning } from "../vm/instance.ts";
import { spawnChild, which } from "../vm/process.ts";
import { pause } from "../vm/wait.ts";
import { kubeconfigPath } from "./kubeconfig.ts";
import { GUEST_ADDRESS } from "./plan.ts";

/**
 * Runs a command in the guest with our own stdin, stdout and stderr; no words give a login shell. Returns its exit code.
 *
 * @throws GatewayError `instance-unknown`, `instance-stopped`, `tool-missing`.
 */
export async function execInGuest(
  name: string,
  words: readonly string[],
  options: { readonly tty: boolean },
): Promise<number> {
  const { paths } = await requireRunning(name);
  return await inherit("ssh", sshArgs(sshConfigPath(paths.sshDir), name, words, options));
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
  const names = sides.filter((name) => name !== undefined);
  if (names.length !== 1) {
    throw usageError(
      `Cannot copy "${source}" to "${destination}"`,
      names.length === 0 ? "neither side is NAME:PATH" : "both sides are in a guest",
      "write the guest's side as NAME:PATH, such as default:/root/",
    );
  }
  const { paths } = await requireRunning(names[0]);
  return await inherit("scp", scpArgs(sshConfigPath(paths.sshDir), source, destination, options));
}

/** Runs kubectl: the host's with the instance's kubeconfig where both are there, else the guest's. */
export async function kubectl(name: string, args: readonly string[]): Promise<number> {
  const { run, config } = await requireRunning(name);
  if (which("kubectl") && config.kubeApi && run.apiPort !== null) {
    return await inherit("kubectl", ["--kubeconfig", kubeconfigPath(name), ...args]);
  }
  return await execInGuest(name, ["kubectl", ...args], { tty: false });
}

async function inherit(program: string, args: readonly string[]): Promise<number> {
  const child = spawnChild(program, {
    args,
    stdin: "inherit",
    stdout: "inherit",
    stderr: "inherit",
  });
  const { code } = await child.exited;
  return code;
}

/** Which log. */
export type LogSource = "console" | "cluster" | "gvproxy" | "vmm" | "events";

/** Where the cluster's own log is in the guest. */
const CLUSTER_LOG = "/var/log/k3s.log";

/** Writes a log, and goes on as it grows when asked to. Returns the exit code. */
export async function logs(
  name: string,
  options: {
    readonly source: LogSource;
    readonly follow: boolean;
    readonly write: (bytes: Uint8Array) => void;
    readonly signal: AbortSignal;
  },
): Promise<number> {
  const { source, follow } = options;
  if (source === "cluster") {
    const words = follow ? ["tail", "-n", "200", "-F", CLUSTER_LOG] : ["cat", CLUSTER_LOG];
    return await execInGuest(name, words, { tty: false });
  }
  const { paths } = await requireInstance(name);
  const path = {
    console: paths.consoleLog,
    gvproxy: paths.gvproxyLog,
    vmm: paths.vmmLog,
    events: paths.eventsFile,
  }[source];
  try {
    await writeLog(path, options);
    return 0;
  } catch (error) {
    // Ctrl-C is how one leaves a log that is followed.
    if (options.signal.aborted) return 130;
    throw error;
  }
}

const FOLLOW_INTERVAL_MS = 200;

async function writeLog(
  path: string,
  options: {
    readonly follow: boolean;
    readonly write: (bytes: Uint8Array) => void;
    readonly signal: AbortSignal;
  },
): Promise<void> {
  let offset = 0;
  for (;;) {
    const bytes = await readFrom(path, offset);
    // A log that is shorter than what we have read was begun anew by a later start.
    if (bytes === undefined) offset = 0;
    else {
      options.write(bytes);
      offset += bytes.length;
    }
    if (!options.follow) return;
    await pause(FOLLOW_INTERVAL_MS, options.signal);
  }
}

async function readFrom(path: string, offset: number): Promise<Uint8Array | undefined> {
  let file: Deno.FsFile;
  try {
    file = await Deno.open(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return new Uint8Array(0);
    throw error;
  }
  using held = file;
  const { size } = await held.stat();
  if (size < offset) return undefined;
  await held.seek(offset, Deno.SeekMode.Start);
  const buffer = new Uint8Array(size - offset);
  let filled = 0;
  while (filled < buffer.length) {
    const read = await held.read(buffer.subarray(filled));
    if (read === null) break;
    filled += read;
  }
  return buffer.subarray(0, filled);
}

/** Lists, adds or removes forwards of a running instance; they last until it stops. Returns the open ones. */
export async function portCommand(
  name: string,
  verb: "list" | "add" | "remove",
  spec: string | undefined,
  signal: AbortSignal,
): Promise<readonly GvproxyForward[]> {
  const forward = spec === undefined ? undefined : parseForward(spec);
  const { paths } = await requireRunning(name);
  using client = new GvproxyClient(gvproxyApiSocket(paths.runtimeDir));
  if (forward) {
    const local = hostPort(forward.address, forward.hostPort);
    if (verb === "add") await client.expose(local, `${GUEST_ADDRESS}:${forward.guestPort}`, signal);
    if (verb === "remove") await client.unexpose(local, signal);
  }
  return await client.list(signal);
}
