/**
 * Looks after the network process of a running instance: after sleep or a change of the host's network it was seen to
 * spin or hang in others' hands. One that does not answer is replaced, with the guest kept.
 * It must not replace anything itself: whoever runs the instance does.
 *
 * @module
 */
import type { GvproxyClient } from "../../net/gvproxy.ts";
import type { Span } from "../../vm/base/event.ts";
import { repeat } from "../../vm/base/wait.ts";

const LOOK_MS = 15_000;
/** The bound of one question; this many in a row without an answer make a hang. */
const ANSWER_MS = 5000;
const TRIES = 2;

/** Asks gvproxy now and then, and at once when told to. */
export class NetworkHealth {
  #busy = false;
  #told = false;

  constructor(
    private readonly gvproxy: Pick<GvproxyClient, "stats">,
    private readonly span: Span,
    private readonly signal: AbortSignal,
    /** Called once, when it hangs. */
    private readonly onHang: () => void,
  ) {}

  /** Looks until the signal aborts. Never rejects. */
  async watch(): Promise<void> {
    await repeat(() => this.look(), LOOK_MS, this.signal);
  }

  /** Looks now. */
  async look(): Promise<void> {
    if (this.#busy || this.#told) return;
    this.#busy = true;
    try {
      for (let at = 0; at < TRIES; at++) {
        if (this.signal.aborted || await this.#answers()) return;
      }
      this.#told = true;
      this.span.warn("gvproxy does not answer any more; it is replaced and the guest goes on");
      this.onHang();
    } finally {
      this.#busy = false;
    }
  }

  async #answers(): Promise<boolean> {
    const bounded = AbortSignal.any([this.signal, AbortSignal.timeout(ANSWER_MS)]);
    return await this.gvproxy.stats(bounded).then(() => true, () => false);
  }
}
