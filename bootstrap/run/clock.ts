/**
 * Keeps the guest's clock on the host's: a host that slept, or whose clock was set, leaves its guest behind.
 * It must not set the host's clock or trust the guest's.
 *
 * @module
 */
import type { Span } from "../../vm/base/event.ts";
import { limitRecords } from "../../vm/base/record_limit.ts";
import { repeat } from "../../vm/base/wait.ts";
import type { GuestControl } from "./frozen_programs.ts";

/** The two clocks of the host, in milliseconds. */
export interface HostClocks {
  /** Wall clock. */
  readonly wallMs: () => number;
  /** Steady; stands still while the host sleeps. */
  readonly steadyMs: () => number;
}

const HOST_CLOCKS: HostClocks = { wallMs: () => Date.now(), steadyMs: () => performance.now() };

/** A wall clock that moved this much against the steady one was set, or slept through. */
export const JUMP_MS = 250;
/** The guest's own counter drifts a little; this often it is put right without a jump. */
export const RESYNC_MS = 10 * 60_000;
const LOOK_MS = 1000;

/** The request that sets the guest's clock to this moment. */
export function clockRequest(wallMs: number): string {
  const whole = Math.floor(wallMs / 1000);
  const nanos = Math.round((wallMs - whole * 1000) * 1e6);
  return `clock ${whole}.${String(nanos).padStart(9, "0")}`;
}

/** Looks at the clocks once; tells when the guest's has to be set. Pure but for the clocks. */
export class ClockWatch {
  #offsetMs: number;
  #setAtMs: number;

  constructor(private readonly clocks: HostClocks = HOST_CLOCKS) {
    this.#offsetMs = clocks.wallMs() - clocks.steadyMs();
    this.#setAtMs = clocks.steadyMs();
  }

  /** How far the wall clock jumped since the last look that said so; undefined when the guest is fine. */
  look(): { readonly jumpMs: number } | undefined {
    const steady = this.clocks.steadyMs();
    const offset = this.clocks.wallMs() - steady;
    const jumpMs = offset - this.#offsetMs;
    if (Math.abs(jumpMs) < JUMP_MS && steady - this.#setAtMs < RESYNC_MS) return undefined;
    this.#offsetMs = offset;
    this.#setAtMs = steady;
    return { jumpMs };
  }
}

/** An answer that took this long came from a guest that stood still meanwhile: its VMM was stopped, or the host slept. */
export const STALL_MS = 800;
const PING_TIMEOUT_MS = 5000;

/** A guest can make its clock be set as often as it is looked at. */
const RECORDS = { what: "corrections of the guest's clock", records: 500, characters: 100_000 };

/**
 * Sets the guest's clock within two seconds of a jump of the host's, or of a standstill of the guest's, until the signal
 * aborts. Never rejects. `onWake` is called after each of these, since other things may have suffered, too.
 */
export async function keepClock(
  control: GuestControl,
  span: Span,
  signal: AbortSignal,
  options: {
    readonly clocks?: HostClocks;
    readonly onWake?: () => void;
    /** How often it is looked at; tests pass less. */
    readonly lookMs?: number;
  } = {},
): Promise<void> {
  const { clocks = HOST_CLOCKS, onWake, lookMs = LOOK_MS } = options;
  const records = limitRecords(span, RECORDS);
  const watch = new ClockWatch(clocks);
  let silent = false;
  await repeat(
    async () => {
      const askedMs = clocks.steadyMs();
      const answered = await control.request("ping", PING_TIMEOUT_MS, signal).then(
        () => true,
        () => false,
      );
      const stalledMs = clocks.steadyMs() - askedMs;
      const found = watch.look();
      const jumped = Math.abs(found?.jumpMs ?? 0) >= JUMP_MS;
      const woke = answered && (silent || stalledMs >= STALL_MS);
      silent = !answered;
      if (!answered || (!found && !woke)) return;
      try {
        await control.request(clockRequest(clocks.wallMs()), PING_TIMEOUT_MS, signal);
      } catch {
        // A guest that does not answer has worse trouble, which the guard tells.
        silent = true;
        return;
      }
      if (jumped) {
        records.log(`the clock moved by ${Math.round(found!.jumpMs / 1000)} s; the guest follows`);
      } else if (woke) records.log("the guest stood still for a while; its clock is right again");
      if (jumped || woke) onWake?.();
    },
    lookMs,
    signal,
  );
}
