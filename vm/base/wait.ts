/**
 * The only poll loop of the project, and the helpers that bound any other wait.
 * It must not know what it waits for: callers bring the probe, the bound and the hint.
 *
 * @module
 */
import { delay } from "@std/async";
import { abortError, describeError, type ErrorCode, GatewayError } from "./error.ts";

/** One bounded wait. */
export interface WaitOptions<T> {
  /** What is awaited, as it reads after "waiting for". */
  readonly what: string;
  /** Returns a value when it is there, undefined to try again; what it throws is kept as the reason. A GatewayError with code "bug", "usage" or "interrupted" ends the wait. */
  readonly probe: (signal: AbortSignal) => Promise<T | undefined>;
  /** The bound of the whole wait. */
  readonly timeoutMs: number;
  /** Pause between two tries; 50 ms by default. */
  readonly intervalMs?: number;
  /** Bound of one try; 10 s by default, and never more than what is left. */
  readonly probeTimeoutMs?: number;
  /** Ends the wait with its reason. */
  readonly signal?: AbortSignal;
  /** Whether more tries are pointless after this error of the probe; then it is thrown at once. */
  readonly isFinal?: (error: unknown) => boolean;
  /** Code of the error when the bound is reached; "timeout" by default. */
  readonly code?: ErrorCode;
  /** What the user does when the bound is reached. */
  readonly hint?: string;
}

/**
 * Tries a probe until it gives a value.
 *
 * @throws GatewayError `timeout` (or the given code) with the last observed reason, or the signal's reason.
 */
export async function waitFor<T>(options: WaitOptions<T>): Promise<T> {
  const { what, probe, timeoutMs, intervalMs = 50, probeTimeoutMs = 10_000, signal } = options;
  const deadline = performance.now() + timeoutMs;
  let lastReason: string | undefined;
  for (;;) {
    if (signal?.aborted) throw abortError(signal);
    const leftMs = deadline - performance.now();
    if (leftMs <= 0) break;
    try {
      const value = await bounded(probe, Math.min(leftMs, probeTimeoutMs), signal);
      if (value !== undefined) return value;
    } catch (error) {
      if (signal?.aborted) throw abortError(signal);
      if (error instanceof GatewayError && FINAL_CODES.has(error.code)) throw error;
      if (options.isFinal?.(error)) throw error;
      // The last try is cut short by the bound and says nothing; the one before, which ended by itself, does.
      const cut = error instanceof NoAnswer && leftMs < probeTimeoutMs;
      if (!cut || lastReason === undefined) lastReason = describeError(error);
    }
    const pauseMs = Math.min(intervalMs, deadline - performance.now());
    if (pauseMs > 0) await pause(pauseMs, signal);
  }
  throw new GatewayError({
    code: options.code ?? "timeout",
    what: `Timed out after ${formatMs(timeoutMs)} waiting for ${what}`,
    why: lastReason ?? "it did not answer",
    fix: options.hint ?? LOOK,
  });
}

const FINAL_CODES: ReadonlySet<ErrorCode> = new Set<ErrorCode>(["bug", "usage", "interrupted"]);

/** Calls `fn` again and again with a pause between, until the signal aborts; what it throws ends it, too. Resolves at the end. */
export async function repeat(
  fn: () => Promise<void>,
  intervalMs: number,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    await fn();
    await pause(intervalMs, signal).catch(() => {});
  }
}

/** Sleeps, or rejects with the signal's reason. */
export async function pause(ms: number, signal?: AbortSignal): Promise<void> {
  try {
    await delay(ms, { signal });
  } catch (error) {
    if (signal?.aborted) throw abortError(signal);
    throw error;
  }
}

/** A try was ended by its bound. */
class NoAnswer extends Error {}

async function bounded<T>(
  probe: (signal: AbortSignal) => Promise<T>,
  timeoutMs: number,
  outer?: AbortSignal,
): Promise<T> {
  const timer = new AbortController();
  const id = setTimeout(
    () => timer.abort(new NoAnswer(`no answer within ${formatMs(timeoutMs)}`)),
    timeoutMs,
  );
  const signal = outer ? AbortSignal.any([outer, timer.signal]) : timer.signal;
  try {
    return await raceAbort(probe(signal), signal);
  } finally {
    clearTimeout(id);
  }
}

/**
 * The promise's value, unless the signal aborts first: then its reason is thrown and the promise's own
 * outcome is ignored.
 */
export function raceAbort<T>(promise: Promise<T>, signal?: AbortSignal): Promise<T> {
  if (!signal) return promise;
  return new Promise<T>((resolve, reject) => {
    const onAbort = () => reject(signal.reason ?? abortError(signal));
    if (signal.aborted) onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}

/** A promise that has to settle in time. */
export type SettleOptions = Omit<
  WaitOptions<never>,
  "probe" | "intervalMs" | "probeTimeoutMs" | "isFinal"
>;

/**
 * The promise's own outcome, if it comes within the bound.
 *
 * @throws GatewayError `timeout` (or the given code), the signal's reason, or what the promise rejects with.
 */
export async function settleWithin<T>(promise: Promise<T>, options: SettleOptions): Promise<T> {
  const late = new AbortController();
  const id = setTimeout(() =>
    late.abort(
      new GatewayError({
        code: options.code ?? "timeout",
        what: `Timed out after ${formatMs(options.timeoutMs)} waiting for ${options.what}`,
        why: "it did not come",
        fix: options.hint ?? LOOK,
      }),
    ), options.timeoutMs);
  const { signal } = options;
  try {
    return await raceAbort(promise, signal ? AbortSignal.any([signal, late.signal]) : late.signal);
  } catch (error) {
    if (signal?.aborted) throw abortError(signal);
    throw error;
  } finally {
    clearTimeout(id);
  }
}

const LOOK = "run `gateway logs` and `gateway status --timeline` to see how far it got";

/**
 * The promise's value within the bound, else `undefined`. The timer never keeps the process alive.
 */
export async function within<T>(promise: Promise<T>, timeoutMs: number): Promise<T | undefined> {
  let id: ReturnType<typeof setTimeout> | undefined;
  const timer = new Promise<undefined>((resolve) => {
    id = setTimeout(() => resolve(undefined), timeoutMs);
  });
  try {
    return await Promise.race([promise, timer]);
  } finally {
    clearTimeout(id);
  }
}

/** A duration for people: `850 ms`, `2.5 s`, `3 min 20 s`. */
export function formatMs(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 120) return `${Number(seconds.toFixed(1))} s`;
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)} min ${whole % 60} s`;
}
