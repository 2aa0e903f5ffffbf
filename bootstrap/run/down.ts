/**
 * Stops an instance: asks its supervisor to power the guest off, then insists.
 * It must not delete anything but the traces of a run.
 *
 * @module
 */
import { asHostError, describeError, GatewayError } from "../../vm/base/error.ts";
import type { Span } from "../../vm/base/event.ts";
import { instancePaths } from "../../vm/base/layout.ts";
import { signalProcess } from "../../vm/base/process.ts";
import { isAlive, type ProcessId } from "../../vm/base/process_table.ts";
import { waitFor } from "../../vm/base/wait.ts";
import { findDamage } from "../../vm/instance/damage.ts";
import {
  endLeftovers,
  findInstance,
  type InstanceView,
  LockedInstance,
  removeInstance,
  requireInstance,
} from "../../vm/instance/instance.ts";
import { isLocked } from "../../vm/instance/lock.ts";
import { lockHolder } from "../../vm/instance/record.ts";
import { removeKubeconfig } from "../cluster/kubeconfig.ts";
import { deactivateClientFiles, removeClientFiles } from "../credentials/client_files.ts";

/** Longer than the guest's own bounds together: 20 s for the cluster, then unmounting, slow under emulation. */
const DOWN_TIMEOUT_MS = 60_000;

/** What a stop found. */
export type DownOutcome = "stopped" | "was-stopped" | "cleaned-up" | "killed";

/**
 * Stops the instance; one that is stopped already is fine.
 *
 * @throws GatewayError `instance-unknown`, or the signal's reason.
 */
export async function down(
  name: string,
  options: { readonly span: Span; readonly signal: AbortSignal; readonly timeoutMs?: number },
): Promise<DownOutcome> {
  const view = await settled(name, options.signal);
  if (view.state === "stopped" || view.state === "suspended") return "was-stopped";
  if (view.state === "crashed") {
    // Opening ends what the dead supervisor left running.
    await (await LockedInstance.open(name, options.signal))[Symbol.asyncDispose]();
    await deactivateClientFiles({ instance: name, instanceDir: view.paths.dir });
    return "cleaned-up";
  }
  return await stopSupervisor(view, options);
}

/** The instance as it is; one that has just taken its lock is given a moment to say who runs. */
async function settled(name: string, signal: AbortSignal): Promise<InstanceView> {
  const look = async () => {
    const view = await requireInstance(name);
    return view.state === "running" && !view.run ? undefined : view;
  };
  const now = await look();
  if (now) return now;
  try {
    return await waitFor({
      what: `the record of "${name}"`,
      probe: look,
      timeoutMs: RECORD_TIMEOUT_MS,
      signal,
    });
  } catch (error) {
    if (signal.aborted) throw error;
    return await requireInstance(name);
  }
}

const RECORD_TIMEOUT_MS = 5000;

async function stopSupervisor(
  view: InstanceView,
  options: { readonly span: Span; readonly signal: AbortSignal; readonly timeoutMs?: number },
): Promise<DownOutcome> {
  const { run, config } = view;
  // A record that cannot be read is not needed to stop what runs: the lock has its supervisor.
  const supervisor = run?.supervisor ?? await lockHolder(view.paths);
  if (!supervisor) {
    throw new GatewayError({
      code: "instance-locked",
      what: `Cannot stop the instance "${config.name}"`,
      why: "its lock is held and it has no record of a run yet",
      fix: "wait a moment and run the command again",
    });
  }
  const runs = async () => (await findInstance(config.name))?.state === "running";
  if (await endSupervisor(config.name, supervisor, runs, options)) return "stopped";
  if (run) await endLeftovers(run);
  return "killed";
}

/** Asks a supervisor to end, and kills it where it is still there after a while; gives whether it ended by itself. */
async function endSupervisor(
  name: string,
  supervisor: ProcessId,
  runs: () => Promise<boolean>,
  options: { readonly span: Span; readonly signal: AbortSignal; readonly timeoutMs?: number },
): Promise<boolean> {
  const { span, signal, timeoutMs = DOWN_TIMEOUT_MS } = options;
  if (isAlive(supervisor)) signalProcess(supervisor.pid, "SIGTERM");
  try {
    await waitFor({
      what: `the end of "${name}"`,
      probe: async () => await runs() ? undefined : true,
      timeoutMs,
      signal,
    });
    return true;
  } catch (error) {
    if (signal.aborted) throw error;
    span.warn(`the supervisor did not stop within ${timeoutMs / 1000} s; killing it`);
    if (isAlive(supervisor)) signalProcess(supervisor.pid, "SIGKILL");
    return false;
  }
}

/**
 * Removes an instance with its disk, keys, kubeconfig and client files.
 *
 * @throws GatewayError `instance-unknown`; unless `force`: `instance-running`, which is stopped first then, and
 * `instance-schema` when its records cannot be read.
 */
export async function rm(
  name: string,
  options: { readonly span: Span; readonly signal: AbortSignal; readonly force: boolean },
): Promise<void> {
  const view = await requireInstance(name).catch((error) => refuseDamaged(name, error, options));
  if (view?.state === "running" && !options.force) {
    throw new GatewayError({
      code: "instance-running",
      what: `Cannot remove the instance "${name}"`,
      why: "it is running",
      fix: `run \`gateway down --name ${name}\` first, or \`gateway rm --force --name ${name}\``,
    });
  }
  if (view) await down(name, options);
  else await endHolder(name, options);
  const owner = { instance: name, instanceDir: instancePaths(name).dir };
  await removeInstance(name, async () => {
    for (const remove of [removeKubeconfig, removeClientFiles]) {
      try {
        await remove(owner);
      } catch (error) {
        if (!options.force) throw withForce(asHostError(error), name);
        options.span.warn(`left behind: ${describeError(asHostError(error))}`);
      }
    }
  });
}

/** Passes on why there is no such instance, unless what is there may be removed: see {@linkcode findDamage}. */
async function refuseDamaged(
  name: string,
  error: unknown,
  { force }: { readonly force: boolean },
): Promise<undefined> {
  const codes = ["instance-schema", "instance-unknown", "permission"];
  if (!(error instanceof GatewayError) || !codes.includes(error.code)) throw error;
  const damage = await findDamage(name);
  if (!damage) throw error;
  if (force || damage.unfinished) return;
  throw new GatewayError({
    code: "instance-schema",
    what: `Cannot remove the instance "${name}"`,
    why: `it is damaged: "${damage.file}": ${damage.why}`,
    fix: `restore the file, or remove what is left with \`gateway rm --force ${name}\``,
  });
}

/** Ends whoever holds the lock of an instance that cannot be read. */
async function endHolder(
  name: string,
  options: { readonly span: Span; readonly signal: AbortSignal },
): Promise<void> {
  const paths = instancePaths(name);
  const holder = await isLocked(paths) ? await lockHolder(paths) : undefined;
  if (holder) await endSupervisor(name, holder, () => isLocked(paths), options);
}

/** What lies outside of the instance's folder does not keep it from being removed. */
function withForce(error: unknown, name: string): unknown {
  if (!(error instanceof GatewayError)) return error;
  const { code, what, why, fix, cause } = error;
  const force = `or leave it there with \`gateway rm --force --name ${name}\``;
  return new GatewayError({ code, what, why, fix: `${fix}; ${force}`, cause });
}

/** What `gateway down` found and did. */
export function downText(name: string, outcome: DownOutcome): string {
  return {
    "stopped": `Stopped "${name}".`,
    "was-stopped": `"${name}" was not running.`,
    "cleaned-up": `"${name}" had crashed; what it left behind is gone.`,
    "killed": `"${name}" did not stop in time and was killed.`,
  }[outcome];
}
