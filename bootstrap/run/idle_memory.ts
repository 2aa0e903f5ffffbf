/**
 * Gives memory back to the host while a guest is idle: an emulator keeps all code that it ever translated, of a boot some
 * 900 MiB, and an idle cluster runs a tenth of that.
 * It must not disturb a guest that works: what is given back and needed again is translated anew.
 *
 * @module
 */
import { describeError } from "../../vm/base/error.ts";
import type { Span } from "../../vm/base/event.ts";
import { coresUsed } from "../../vm/base/process_table.ts";
import { pause } from "../../vm/base/wait.ts";
import type { RunningVm } from "../../vm/machine/vmm.ts";

/** What is idle: a process that uses less than so much of a core, on the average of a look. */
export interface IdleRule {
  readonly lookMs: number;
  readonly cores: number;
}

/** An idle emulated cluster takes about a third of a core. */
const IDLE: IdleRule = { lookMs: 5000, cores: 0.6 };
/** What an idle cluster runs again within minutes is less. */
const CODE_MIB = 128;
/** So that a guest that needs more code than that is not made to translate it over and over. */
const REST_MS = 60_000;

/** Looks until the signal aborts, or until the VMM is gone or says that it cannot. Never rejects. */
export async function trimWhenIdle(
  vm: Pick<RunningVm, "pid" | "trim">,
  span: Span,
  signal: AbortSignal,
  idle = IDLE,
): Promise<void> {
  if (!vm.trim) return;
  let told = false;
  try {
    for (;;) {
      const cores = await coresUsed(vm.pid, idle.lookMs, signal);
      if (Number.isNaN(cores)) return;
      if (cores >= idle.cores) continue;
      const mib = await vm.trim(CODE_MIB, signal);
      if (mib === undefined) return;
      if (mib === 0) continue;
      // Whoever follows a start wants to know once, and not every few minutes.
      if (!told) span.log(`the guest is idle: ${mib} MiB of translated code given back`, { mib });
      told = true;
      await pause(REST_MS, signal);
    }
  } catch (error) {
    if (!signal.aborted) span.warn(`its memory stays as it is: ${describeError(error)}`);
  }
}
