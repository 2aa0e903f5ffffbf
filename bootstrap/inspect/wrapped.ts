/**
 * Runs the program that a command wraps (ssh, scp, kubectl) with our own stdin, stdout and stderr, and behaves like it:
 * signals are passed on, and the command ends when the program does, with its exit code.
 *
 * @module
 */
import { signalProcess, spawnChild } from "../../vm/base/process.ts";
import { onSignals, PASSED_SIGNALS, type PassedSignal } from "../run/user_signals.ts";

/** OpenSSH's own failure, and what it exits with when a signal ends it. */
const SSH_FAILED = 255;

/** Takes what a program prints; false when the reader has gone. */
export type Output = (bytes: Uint8Array) => boolean;

/** How a program is wrapped. */
export interface WrapOptions {
  /**
   * Takes the first signal to where it belongs, such as a program in the guest, and returns whether it arrived.
   * Otherwise, and for every later signal, the program itself gets it.
   */
  readonly passOn?: (signal: PassedSignal) => Promise<boolean>;
  /** Gets the program's stdout and stderr in place of our own. */
  readonly output?: Output;
}

/**
 * Runs a program to its end; returns its exit code.
 *
 * @throws GatewayError `tool-missing`.
 */
export async function runWrapped(
  program: string,
  args: readonly string[],
  { passOn = () => Promise.resolve(false), output }: WrapOptions = {},
): Promise<number> {
  const names = Object.keys(PASSED_SIGNALS) as PassedSignal[];
  let first: PassedSignal | undefined;
  let passed: Promise<void> | undefined;
  // Listening begins before the program does, so that no signal ends us and leaves it behind.
  using _listening = onSignals(names, (signal) => {
    const toProgram = () => {
      if (!fromTerminal(signal)) signalProcess(child.pid, signal);
    };
    if (first !== undefined) return toProgram();
    first = signal;
    passed = passOn(signal).then((arrived) => arrived ? undefined : toProgram());
  });
  const child = spawnChild(program, {
    args,
    stdin: "inherit",
    stdout: output ? "piped" : "inherit",
    stderr: output ? "piped" : "inherit",
  });
  if (output) await Promise.all([copy(child.stdout!, output), copy(child.stderr!, output)]);
  const { code } = await child.exited;
  // The program in the guest may outlive an ssh that the terminal's own signal ended.
  await passed;
  return first !== undefined && code === SSH_FAILED ? 128 + PASSED_SIGNALS[first] : code;
}

async function copy(stream: ReadableStream<Uint8Array>, output: Output): Promise<void> {
  for await (const bytes of stream) if (!output(bytes)) return;
}

/** Whether a signal came from a key on our terminal, which sends it to the program, too. */
function fromTerminal(signal: PassedSignal): boolean {
  if (signal !== "SIGINT" && signal !== "SIGQUIT") return false;
  try {
    const stat = Deno.readTextFileSync("/proc/self/stat");
    // After the program's name: state, parent, process group, session, terminal, the terminal's foreground group.
    const [, , group, , , foreground] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return group === foreground;
  } catch {
    return false;
  }
}
