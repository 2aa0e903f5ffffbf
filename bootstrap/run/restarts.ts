/**
 * How often a run may be followed by another one at once. A guest can bring its network process to a halt, and each
 * restart writes its memory to the disk.
 *
 * @module
 */
import { GatewayError } from "../../vm/base/error.ts";

/** This many restarts are made within the window; the next one ends the run. */
const MAX_RESTARTS = 5;
const WINDOW_MS = 60 * 60 * 1000;

/** The first restart follows at once, the second after this time, and each further one waits twice as long. */
const FIRST_PAUSE_MS = 5000;

/** Counts the restarts of one supervisor. */
export class RestartLimit {
  #times: number[] = [];

  /** `now` is for tests. */
  constructor(
    private readonly instance: string,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /**
   * How long the next restart has to wait, in milliseconds.
   *
   * @throws GatewayError `network-failed` when there were too many.
   */
  next(): number {
    const now = this.now();
    this.#times = this.#times.filter((time) => now - time < WINDOW_MS);
    const before = this.#times.length;
    if (before >= MAX_RESTARTS) {
      throw new GatewayError({
        code: "network-failed",
        what: `Cannot keep the network of "${this.instance}"`,
        why: `it stopped answering ${before + 1} times within ${WINDOW_MS / 60_000} minutes`,
        fix:
          `the instance is suspended: read its gvproxy.log, then run \`gateway resume ${this.instance}\``,
      });
    }
    this.#times.push(now);
    return before === 0 ? 0 : FIRST_PAUSE_MS * 2 ** (before - 1);
  }
}
