/**
 * Suspend and resume: where a start gets its guest from, how a running one is put to sleep, and the socket by which
 * `gateway suspend` asks its supervisor.
 * It must not know a VMM's own words, and keeps no memory image but the instance's one slot.
 *
 * @module
 */
import type { ControlPort } from "../vm/control_port.ts";
import { abortError, describeError, GatewayError } from "../vm/error.ts";
import type { Span } from "../vm/event.ts";
import { findInstance, type InstanceConfig, requireRunning } from "../vm/instance.ts";
import { type InstancePaths, socketPath } from "../vm/layout.ts";
import { connectUnix, readLines, writeAll } from "../vm/lines.ts";
import { run } from "../vm/process.ts";
import type { VmSpec } from "../vm/spec.ts";
import {
  dropSlot,
  isSuspended,
  machineKey,
  readSlot,
  slotPaths,
  spendSlot,
  type SuspendSlot,
  writeSlot,
} from "../vm/suspend.ts";
import type { RunningVm } from "../vm/vmm.ts";
import { raceAbort, settleWithin, waitFor } from "../vm/wait.ts";
import type { ChosenVmm } from "./choose_vmm.ts";
import { keepClock } from "./clock.ts";
import type { UpContext } from "./up.ts";

/** Free space that the memory file must leave on its file system, in MiB. */
const DISK_RESERVE_MIB = 1024;

/**
 * The file for the guest's memory, which makes the instance one that can be suspended; null where the driver has no
 * snapshots or the disk could run full under a guest that touches all its memory (the VMM would die of it).
 */
export async function ramPathFor(
  paths: InstancePaths,
  config: InstanceConfig,
  chosen: ChosenVmm,
): Promise<string | null> {
  if (!chosen.vmm.supports.snapshot) return null;
  const { ram } = slotPaths(paths);
  const { stdout } = await run("df", { args: ["--output=avail", "-B1M", paths.dir] });
  const kept = await Deno.stat(ram).then((info) => (info.blocks ?? 0) / 2048, () => 0);
  const freeMiB = Number(stdout.trim().split("\n").at(-1)) + kept;
  return freeMiB >= config.memoryMiB + DISK_RESERVE_MIB ? ram : null;
}

/** How this start gets its guest: from the slot, or from nothing. */
export interface GuestSource {
  readonly spec: VmSpec;
  readonly slot: SuspendSlot | undefined;
}

/** Takes the suspend slot if it is whole and fits; drops it otherwise, and says why. */
export async function guestSource(
  paths: InstancePaths,
  spec: VmSpec,
  chosen: ChosenVmm,
  cold: boolean,
  span: Span,
): Promise<GuestSource> {
  const found = await readSlot(paths, machineKey(spec, chosen.check.description));
  if (found && !("unusable" in found) && !cold) {
    span.log(`going on from ${found.suspendedAt}`);
    return { spec: { ...spec, incoming: { devicesPath: slotPaths(paths).devices } }, slot: found };
  }
  if (found) {
    const why = "unusable" in found ? found.unusable : "--cold was given";
    span.warn(`the suspended state is dropped (${why}); starting from the disk`);
  }
  await dropSlot(paths);
  await Deno.remove(slotPaths(paths).ram).catch(() => {});
  return { spec, slot: undefined };
}

/**
 * Starts the VMM; the slot is spent as soon as the guest goes on from it. The memory file goes when the VMM does, unless
 * a suspend has made it part of a slot.
 */
export async function startGuest(
  stack: AsyncDisposableStack,
  source: GuestSource,
  paths: InstancePaths,
  chosen: ChosenVmm,
  ctx: UpContext,
  span: Span,
): Promise<RunningVm> {
  stack.defer(async () => {
    if (!await isSuspended(paths)) await Deno.remove(slotPaths(paths).ram).catch(() => {});
  });
  if (!source.slot) return await startVm(stack, source.spec, chosen, ctx, span);
  await using slot = await spendSlot(paths);
  try {
    const vm = await startVm(stack, source.spec, chosen, ctx, span);
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
  span: Span,
): Promise<RunningVm> {
  const vm = stack.use(await chosen.vmm.start(spec, { span, signal: ctx.signal }));
  ctx.owned.add(vm.pid);
  return vm;
}

/**
 * Stays until the user or the guest ends the run.
 *
 * @throws GatewayError when the VM, gvproxy or the guest failed; not when the guest powered itself off.
 */
async function waitForEnd(
  control: ControlPort,
  guarded: AbortSignal,
  user: AbortSignal,
): Promise<void> {
  await raceAbort(new Promise<never>(() => {}), guarded).catch(() => {});
  if (user.aborted || control.markSeen("stopped") !== undefined) return;
  throw abortError(guarded);
}

/** What a run needs to be suspended. */
export interface SuspendParts {
  readonly paths: InstancePaths;
  readonly spec: VmSpec;
  readonly vm: RunningVm;
  readonly chosen: ChosenVmm;
  readonly ports: { readonly sshPort: number; readonly apiPort: number | null };
  readonly span: Span;
}

/**
 * Serves `gateway suspend` and stays until the run ends: suspended, stopped by the user, or powered off by the guest.
 *
 * @throws GatewayError when the VM, gvproxy or the guest failed.
 */
export async function stay(
  stack: AsyncDisposableStack,
  parts: SuspendParts,
  control: ControlPort,
  guarded: AbortSignal,
  user: AbortSignal,
): Promise<void> {
  void keepClock(control, parts.span, guarded);
  let suspending: Promise<void> | undefined;
  serve(stack, parts.paths, () => {
    suspending ??= suspendNow(parts, user).catch((error) => {
      suspending = undefined;
      throw error;
    });
    return suspending;
  });
  try {
    await waitForEnd(control, guarded, user);
  } catch (error) {
    // A suspend ends the VMM, which the guard sees first.
    if (!suspending) throw error;
    await suspending;
  }
}

async function suspendNow(parts: SuspendParts, signal: AbortSignal): Promise<void> {
  const { paths, spec, vm, chosen, ports, span } = parts;
  if (!vm.suspend) {
    throw new GatewayError({
      code: "not-supported",
      what: `Cannot suspend the instance "${paths.name}"`,
      why: spec.ram
        ? "its VMM has no snapshots"
        : "there was no room on the disk for its memory when it started",
      fix: "stop it with `gateway down`, which keeps its state disk",
    });
  }
  await span.run("suspend", async () => {
    await vm.suspend!(slotPaths(paths).devices, signal);
    await writeSlot(paths, { key: machineKey(spec, chosen.check.description), ...ports });
  });
}

function supervisorSocket(paths: InstancePaths): string {
  return socketPath(paths.runtimeDir, "supervisor");
}

/** One request a connection: a line in, a line of JSON out. The folder is ours alone (0700). */
function serve(
  stack: AsyncDisposableStack,
  paths: InstancePaths,
  suspend: () => Promise<void>,
): void {
  const listener = Deno.listen({ transport: "unix", path: supervisorSocket(paths) });
  stack.defer(() => listener.close());
  const answer = async (conn: Deno.UnixConn) => {
    using held = conn;
    for await (const line of readLines(held.readable)) {
      const reply = line === "suspend"
        ? await suspend().then(() => ({ ok: true }), (error) => ({ error: asGatewayError(error) }))
        : { error: asGatewayError(new Error(`"${line.slice(0, 40)}" is no request`)) };
      await writeAll(held, new TextEncoder().encode(JSON.stringify(reply) + "\n"));
      return;
    }
  };
  void (async () => {
    // Ends when the listener is closed.
    for await (const conn of listener) answer(conn).catch(() => {});
  })().catch(() => {});
}

function asGatewayError(error: unknown): GatewayError {
  if (error instanceof GatewayError) return error;
  return new GatewayError({
    code: "vmm-failed",
    what: "Cannot suspend the instance",
    why: describeError(error),
    fix: "run `gateway status`; the instance goes on if it is still ready",
  });
}

const SUSPEND_TIMEOUT_MS = 60_000;

/**
 * Puts a running instance to sleep: memory and devices stay on disk, nothing runs, and `up` goes on from there.
 *
 * @throws GatewayError `instance-unknown`, `instance-stopped`, `not-supported`, `vmm-failed` (the instance runs on).
 */
export async function suspend(name: string, signal: AbortSignal): Promise<void> {
  const { paths } = await requireRunning(name);
  const conn = await connectUnix(supervisorSocket(paths));
  if (!conn) {
    throw new GatewayError({
      code: "instance-locked",
      what: `Cannot suspend the instance "${name}"`,
      why: "it is not ready yet, or it is stopping",
      fix: "wait until `gateway status` says ready, then try again",
    });
  }
  using held = conn;
  await writeAll(held, new TextEncoder().encode("suspend\n"));
  const reading = readLines(held.readable).next();
  const what = "the supervisor's answer";
  const { value } = await settleWithin(reading, { what, timeoutMs: SUSPEND_TIMEOUT_MS, signal });
  const reply = JSON.parse(value ?? "{}");
  if (reply.error) throw new GatewayError(reply.error);
  await waitFor({
    what: `the end of the run of "${name}"`,
    probe: async () => (await findInstance(name))?.state === "suspended" || undefined,
    timeoutMs: SUSPEND_TIMEOUT_MS,
    signal,
  });
}
