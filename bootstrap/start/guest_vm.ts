/**
 * Starts the VMM with the guest that this start gets: from its disk, or from a saved state.
 * It must not choose where the guest comes from.
 *
 * @module
 */
import { describeError, GatewayError } from "../../vm/base/error.ts";
import type { Span } from "../../vm/base/event.ts";
import type { InstancePaths } from "../../vm/base/layout.ts";
import { keepLogsSmall } from "../../vm/base/log_file.ts";
import { spendSlot } from "../../vm/instance/saved_state.ts";
import type { VmSpec } from "../../vm/machine/spec.ts";
import type { RunningVm, StartOptions } from "../../vm/machine/vmm.ts";
import type { ChosenVmm } from "../plan/choose_vmm.ts";
import { rememberFiles } from "../run/save.ts";
import { type GuestSource, sweepFiles } from "../saved/guest_source.ts";
import type { UpContext } from "./context.ts";

/** Starts the VMM; the slot is spent as soon as the guest goes on from it. */
export async function startGuest(
  stack: AsyncDisposableStack,
  source: GuestSource,
  paths: InstancePaths,
  chosen: ChosenVmm,
  ctx: UpContext,
  span: Span,
): Promise<RunningVm> {
  const { spec, slot } = source;
  stack.use(keepLogsSmall([spec.consoleLogPath, spec.vmmLogPath]));
  if (!slot) return await startVm(stack, spec, chosen, ctx, { span });
  const vm = await goOn(
    paths,
    ctx,
    (onContinue) => startVm(stack, spec, chosen, ctx, { span, onContinue }),
  );
  rememberFiles(paths.dir, slot.ram);
  // The upper layers are mapped and no record names them any more; the bottom one will be part of the next save.
  await sweepFiles(paths, span, slot.ram.slice(0, 1).map(({ name }) => name));
  return vm;
}

/** Spends the slot on a start; one that fails before the guest runs gives it back. */
async function goOn(
  paths: InstancePaths,
  ctx: UpContext,
  start: (onContinue: () => void) => Promise<RunningVm>,
): Promise<RunningVm> {
  await using slot = await spendSlot(paths);
  try {
    const vm = await start(slot.keepSpent);
    slot.keepSpent();
    return vm;
  } catch (error) {
    if (ctx.signal.aborted) throw error;
    throw new GatewayError({
      code: "vmm-failed",
      what: `Cannot go on from the suspended state of "${paths.name}"`,
      why: describeError(error),
      fix: "start it from its disk instead: gateway up --cold",
      cause: error,
    });
  }
}

/** Starts the VMM and makes it one of the processes that a second signal kills. */
async function startVm(
  stack: AsyncDisposableStack,
  spec: VmSpec,
  chosen: ChosenVmm,
  ctx: UpContext,
  how: Pick<StartOptions, "span" | "onContinue">,
): Promise<RunningVm> {
  const vm = stack.use(await chosen.vmm.start(spec, { ...how, signal: ctx.signal }));
  ctx.owned.add(vm.pid);
  return vm;
}
