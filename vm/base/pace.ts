/**
 * Holds the reader of a stream to a rate, so that a flood does not cost a whole processor and its sender has to wait.
 *
 * @module
 */
import { pause } from "./wait.ts";

/** Time, in milliseconds. */
export interface PaceClock {
  /** Steady. */
  readonly nowMs: () => number;
  /** Sleeps, or rejects with the signal's reason. */
  readonly wait: (ms: number, signal?: AbortSignal) => Promise<void>;
}

const STEADY: PaceClock = { nowMs: () => performance.now(), wait: pause };

/** A sender that is ahead of the rate by less than this is not made to wait. */
const MAX_BURST_MS = 100;

/** A rate, in units of the caller's. */
export class Pace {
  #dueMs = -Infinity;

  /** `clock` is for tests. */
  constructor(private readonly perSecond: number, private readonly clock = STEADY) {}

  /** Counts the amount and waits while more was taken than the rate allows. Rejects with the signal's reason. */
  async spend(amount: number, signal?: AbortSignal): Promise<void> {
    const nowMs = this.clock.nowMs();
    this.#dueMs = Math.max(this.#dueMs, nowMs) + amount * 1000 / this.perSecond;
    const aheadMs = this.#dueMs - nowMs;
    if (aheadMs > MAX_BURST_MS) await this.clock.wait(aheadMs, signal);
  }
}

/** The stream's chunks, not faster than so many bytes a second. Rejects with the signal's reason. */
export async function* paced(
  stream: AsyncIterable<Uint8Array>,
  bytesPerSecond: Pace,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  for await (const chunk of stream) {
    yield chunk;
    await bytesPerSecond.spend(chunk.length, signal);
  }
}
