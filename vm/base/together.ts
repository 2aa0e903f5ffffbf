/**
 * Runs tasks in parallel. If one fails, the others are cancelled and awaited before the error is thrown.
 *
 * @module
 */
import { abortError, interruptedError } from "./error.ts";

/** One piece of the work; the signal tells it to end early. */
export type Task<T> = (signal: AbortSignal) => Promise<T>;

/** How {@linkcode together} works. */
export interface TogetherOptions {
  /** Ends all with its reason. */
  readonly signal: AbortSignal;
  /** How many run at a time, in the tasks' order; all by default. */
  readonly atOnce?: number;
}

/**
 * Runs tasks side by side and gives their values in the tasks' order. The first failure tells the others to end, and is
 * thrown once they have: a process that exits on it leaves no half-written file and no program running.
 *
 * @throws what the first task to fail threw, or the signal's reason.
 */
export async function together<T extends readonly unknown[]>(
  tasks: { readonly [K in keyof T]: Task<T[K]> },
  options: TogetherOptions,
): Promise<T> {
  const failed = new AbortController();
  const signal = AbortSignal.any([options.signal, failed.signal]);
  const values: unknown[] = [];
  const failures: unknown[] = [];
  const queue = [...tasks.entries()] as [number, Task<unknown>][];
  const worker = async () => {
    while (!signal.aborted) {
      const next = queue.shift();
      if (next === undefined) return;
      const [at, task] = next;
      try {
        values[at] = await task(signal);
      } catch (error) {
        failures.push(error);
        failed.abort(interruptedError("what went on beside it failed"));
      }
    }
  };
  await Promise.all(Array.from({ length: options.atOnce ?? tasks.length }, worker));
  if (failures.length > 0) throw failures[0];
  if (queue.length > 0) throw abortError(options.signal);
  return values as unknown as T;
}

/** Work in the background. Disposing ends it and waits for that. */
export interface Background extends AsyncDisposable {
  /** Resolves when the work is over, however it went. */
  readonly settled: Promise<void>;
}

/** Starts work beside what the caller does next; `work` never rejects. The caller disposes what is returned. */
export function startBeside(
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<void>,
): Background {
  const over = new AbortController();
  const settled = work(AbortSignal.any([signal, over.signal]));
  return {
    settled,
    async [Symbol.asyncDispose]() {
      over.abort();
      await settled;
    },
  };
}
