/**
 * Keeps a guest's programs frozen from before a save until every guest that resumes from it, the saved one included, has
 * random bytes of its own: no two of them draw the same.
 *
 * @module
 */
import { GatewayError } from "../../vm/base/error.ts";

/** The host's end of gw.control. */
export interface GuestControl {
  request(command: string, timeoutMs: number, signal?: AbortSignal): Promise<string>;
}

/** The agent answers within 2 s; on a busy host later. */
const FREEZE_TIMEOUT_MS = 10_000;
const RESEED_TIMEOUT_MS = 10_000;

/** Gives a guest random bytes of its own; the agent then lets its programs run. */
export async function reseed(control: GuestControl, signal?: AbortSignal): Promise<void> {
  const bytes = crypto.getRandomValues(new Uint8Array(64));
  await control.request(`reseed ${bytes.toHex()}`, RESEED_TIMEOUT_MS, signal);
}

/** The programs of a guest that is saved and runs on. */
export class FrozenPrograms {
  #since: number | undefined;
  #stillMs = 0;
  #uptime: number | undefined;

  constructor(private readonly control: GuestControl) {}

  /** How long they stood still, in milliseconds. */
  get stillMs(): number {
    return this.#stillMs;
  }

  /** The guest's uptime in seconds when they stood still; undefined before that. */
  get uptimeSeconds(): number | undefined {
    return this.#uptime;
  }

  /**
   * Freezes them.
   *
   * @throws GatewayError `guest-unreachable`, `guest-failed`, or the signal's reason; release() is due all the same.
   */
  async freeze(signal: AbortSignal): Promise<void> {
    this.#since = performance.now();
    const answer = await this.control.request("freeze", FREEZE_TIMEOUT_MS, signal);
    const uptime = /\buptime=(\d+\.\d+)/.exec(answer)?.[1];
    if (uptime === undefined) {
      throw new GatewayError({
        code: "guest-failed",
        what: "Cannot freeze the guest's programs",
        why: `its agent answered "${answer.slice(0, 100)}"`,
        fix: "run `gateway logs` to read the guest's console",
      });
    }
    this.#uptime = Number(uptime);
  }

  /** Lets them run with fresh random bytes; without freeze() before it does nothing. Not ended by a signal: nothing stays frozen. */
  async release(): Promise<void> {
    if (this.#since === undefined) return;
    await reseed(this.control);
    this.#stillMs = performance.now() - this.#since;
    this.#since = undefined;
  }
}
