/**
 * Processes that a killed program has left behind, found by their environment.
 * It must not guess by a program's name.
 *
 * @module
 */
import { signalProcess } from "../base/process.ts";
import { identifyProcess, isAlive, type ProcessId } from "../base/process_table.ts";
import { pause } from "../base/wait.ts";

/** The processes of this user whose environment has this entry (Linux); not this one. */
export async function processesWith(entry: string): Promise<ProcessId[]> {
  const found: ProcessId[] = [];
  for (const { name } of await Array.fromAsync(Deno.readDir("/proc")).catch(() => [])) {
    if (!/^\d+$/.test(name) || Number(name) === Deno.pid) continue;
    // Not readable: it is gone, or another user's.
    const text = await Deno.readTextFile(`/proc/${name}/environ`).catch(() => "");
    const id = text.split("\0").includes(entry) ? identifyProcess(Number(name)) : undefined;
    if (id) found.push(id);
  }
  return found;
}

/** Kills exactly these processes and waits until they are gone, for a bounded time. */
export async function endAtOnce(ids: readonly ProcessId[]): Promise<void> {
  for (const id of ids) if (isAlive(id)) signalProcess(id.pid, "SIGKILL");
  for (let tries = 0; tries < 100 && ids.some(isAlive); tries++) await pause(20);
}
