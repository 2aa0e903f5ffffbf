/**
 * The signals that a user or another program sends to a command: to stop it, or, where it wraps a program, for that
 * program.
 *
 * @module
 */
import { interruptedError } from "../../vm/base/error.ts";

/** A command's signals; disposing removes the listeners. */
export interface StopSignals extends Disposable {
  /** Aborts on the first SIGINT, SIGTERM or SIGHUP: end cleanly. */
  readonly stop: AbortSignal;
  /** Aborts on a second Ctrl-C: end now. */
  readonly force: AbortSignal;
}

/**
 * Listens for the signals that stop a command. Only Ctrl-C counts twice: closing the terminal sends SIGHUP, and
 * `gateway down` sends SIGTERM, neither of which asks for a guest to be killed. `onForce` runs after the listeners of
 * `force`.
 */
export function stopSignals(onForce: () => void): StopSignals {
  const stop = new AbortController();
  const force = new AbortController();
  let interrupts = 0;
  const listening = onSignals(["SIGINT", "SIGTERM", "SIGHUP"], (name) => {
    if (name === "SIGINT") interrupts++;
    stop.abort(interruptedError());
    if (interrupts < 2) return;
    force.abort(interruptedError());
    onForce();
  });
  return {
    stop: stop.signal,
    force: force.signal,
    [Symbol.dispose]: () => listening[Symbol.dispose](),
  };
}

/** Signals that a wrapped program gets when the wrapper does, with their numbers on every Unix. */
export const PASSED_SIGNALS = { SIGHUP: 1, SIGINT: 2, SIGQUIT: 3, SIGTERM: 15 } as const;

/** One of them. */
export type PassedSignal = keyof typeof PASSED_SIGNALS;

/** Calls a function with each of these signals until it is disposed. */
export function onSignals<Name extends Deno.Signal>(
  names: readonly Name[],
  handle: (name: Name) => void,
): Disposable {
  const listeners = names.map((name) => [name, () => handle(name)] as const);
  for (const [name, listener] of listeners) Deno.addSignalListener(name, listener);
  return {
    [Symbol.dispose]() {
      for (const [name, listener] of listeners) Deno.removeSignalListener(name, listener);
    },
  };
}
