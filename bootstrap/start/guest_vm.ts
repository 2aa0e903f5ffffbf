/**
 * Starts the VMM with the guest that this start gets: from its disk, or from a saved state.
 * It must not choose where the guest comes from.
 *
 * @module
 */
import { describeError, GatewayError } from "../../vm/base/error.ts";
import type { InstancePaths } from "../../vm/base/layout.ts";
import { spendSlot } from "../../vm/instance/saved_state.ts";
import type { RunningVm, StartOptions } from "../../vm/machine/vmm.ts";
import type { ChosenVmm } from "../plan/choose_vmm.ts";
import { rememberFiles } from "../run/save.ts";
import { type GuestSource, sweepFiles } from "../saved/guest_source.ts";

/** Starts the VMM; the slot is spent as soon as the guest resumes from it. The caller disposes the VM. */
export async function startGuest(
  { spec, slot }: GuestSource,
  paths: InstancePaths,
  chosen: ChosenVmm,
  how: Pick<StartOptions, "span" | "signal">,
): Promise<RunningVm> {
  if (!slot) return await chosen.vmm.start(spec, how);
  const vm = await resume(
    paths,
    how.signal,
    (onContinue) => chosen.vmm.start(spec, { ...how, onContinue }),
  );
  rememberFiles(paths.dir, slot.ram);
  // The upper layers are mapped and no record names them any more; the bottom one will be part of the next save.
  await sweepFiles(paths, how.span, slot.ram.slice(0, 1).map(({ name }) => name));
  return vm;
}

/** Spends the slot on a start; one that fails before the guest runs gives it back. */
async function resume(
  paths: InstancePaths,
  signal: AbortSignal,
  start: (onContinue: () => void) => Promise<RunningVm>,
): Promise<RunningVm> {
  await using slot = await spendSlot(paths);
  try {
    const vm = await start(slot.keepSpent);
    slot.keepSpent();
    return vm;
  } catch (error) {
    if (signal.aborted) throw error;
    throw new GatewayError({
      code: "vmm-failed",
      what: `Cannot go on from the suspended state of "${paths.name}"`,
      why: describeError(error),
      fix: "start it from its disk instead: gateway up --cold",
      cause: error,
    });
  }
}
