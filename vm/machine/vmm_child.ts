/**
 * A VMM as a child of ours: with a log, with private sockets, and never left behind. While it starts it ends with us,
 * however we end; later its guest sees that we are gone and powers off cleanly.
 * It must not know which VMM it is.
 *
 * @module
 */
import { clearedEnv } from "../base/child_env.ts";
import { type ChildExit, type ChildProcess, spawnChild } from "../base/process.ts";
import { within } from "../base/wait.ts";

/** A VMM that was started. */
export interface VmmChild {
  readonly pid: number;
  /** Resolves when it is gone, and what watched over it, too; never rejects. */
  readonly exited: Promise<ChildExit>;
  /** From now on it does not end at once when we are killed. Safe to call again. */
  keep(): Promise<void>;
  /** As {@linkcode ChildProcess.stop}. */
  stop(timeoutMs: number): Promise<ChildExit>;
}

/**
 * The shell gives the VMM a private umask (nobody else can use its sockets and files) and its log, and becomes it. Beside it another
 * one waits for a line from us: when our end of the pipe is closed without one, we were killed, and it kills the VMM. It
 * has the shell for a parent, not the VMM, which would have to reap it. A library that is preloaded into the VMM is not
 * loaded into the shell.
 */
const SCRIPT = `umask 077; log=$1; shift
exec 3<&0
( ( read -r _ <&3 || kill -KILL $$ ) & )
[ -z "$GATEWAY_PRELOAD" ] || export LD_PRELOAD="$GATEWAY_PRELOAD"
# It appends, so that the log can be cut while it runs.
: >"$log"; exec "$@" </dev/null 3<&- >>"$log" 2>&1`;

/** It needs a millisecond; a host where it needs longer is not kept waiting. */
const WATCHER_END_MS = 5000;

/** Starts a VMM in a process group of its own. @throws GatewayError `process-failed`. */
export function spawnVmm(
  program: string,
  args: readonly string[],
  options: {
    readonly logPath: string;
    readonly env: Readonly<Record<string, string>>;
    /** Beside `env` the VMM gets only the variables that {@linkcode clearedEnv} keeps. */
    readonly clearEnv?: boolean;
    readonly cwd?: string;
    /** A library for the VMM alone, in the loader's grammar. */
    readonly preload?: string;
  },
): VmmChild {
  const env = { ...options.env, GATEWAY_PRELOAD: options.preload ?? "" };
  const child = spawnChild("/bin/sh", {
    args: ["-c", SCRIPT, "sh", options.logPath, program, ...args],
    ...(options.clearEnv ? clearedEnv(env) : { env }),
    cwd: options.cwd,
    stdin: "piped",
    // The VMM's own goes to its log: this ends with the watcher.
    stdout: "piped",
    ownGroup: true,
  });
  let kept: Promise<void> | undefined;
  const keep = () => kept ??= release(child);
  const exited = child.exited.then(async (exit) => {
    await keep();
    return exit;
  });
  const stop = async (timeoutMs: number) => {
    await child.stop(timeoutMs);
    return await exited;
  };
  return { pid: child.pid, exited, keep, stop };
}

async function release(child: ChildProcess): Promise<void> {
  try {
    const writer = child.stdin!.getWriter();
    await writer.write(new TextEncoder().encode("kept\n"));
    await writer.close();
  } catch {
    // It is gone already, killed with the VMM's group.
  }
  await within(new Response(child.stdout!).text(), WATCHER_END_MS);
}
