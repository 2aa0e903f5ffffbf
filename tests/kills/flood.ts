/**
 * A guest that floods its host's supervisor without an end: what it costs, on a stand-in for QEMU and its guest.
 *
 * @module
 */
import { join } from "@std/path";
import { LineConnection } from "../../vm/base/lines.ts";
import { coresUsed, residentMiB } from "../../vm/base/process_table.ts";
import { waitFor } from "../../vm/base/wait.ts";
import { runRecord } from "../vm/instance_files.ts";
import type { World } from "./world.ts";

/** What the instance `default` costs its host while it is flooded. */
export interface FloodCost {
  /** The most that was seen of the supervisor's resident memory. */
  readonly memoryMiB: number;
  /** Of a processor, on the average, the supervisor. */
  readonly cores: number;
  /** Records and logs of the run, the most that was seen of them. */
  readonly diskMiB: number;
}

/** Makes the guest of `default` flood control port and console, and waits until both bounds were reached. */
export async function beginFlood(world: World): Promise<void> {
  const signal = new AbortController().signal;
  const dir = world.dirOf("default");
  const { runtimeDir } = await runRecord(dir);
  using guest = (await LineConnection.connect(join(runtimeDir!, "vm/guest")))!;
  await guest.say("flood");
  await guest.hear({ what: "the flood", timeoutMs: world.patienceMs, signal });
  const has = async (file: string, text: string) =>
    (await Deno.readTextFile(join(dir, file))).includes(text) || undefined;
  for (
    const [file, text] of [
      ["events.jsonl", "too many lines from the guest"],
      ["console.log", "bytes before this line were cut)"],
    ] as const
  ) {
    const timeoutMs = world.patienceMs;
    await waitFor({ what: `"${text}" in ${file}`, probe: () => has(file, text), timeoutMs });
  }
}

/** Watches the supervisor for a while. */
export async function floodCost(world: World, windowMs: number): Promise<FloodCost> {
  const dir = world.dirOf("default");
  const { pid } = (await runRecord(dir)).supervisor!;
  let [memoryMiB, diskMiB] = [0, 0];
  const watch = setInterval(() => {
    memoryMiB = Math.max(memoryMiB, memoryOf(pid));
    const sizes = ["events.jsonl", "console.log", "vmm.log", "gvproxy.log"]
      .map((name) => Deno.statSync(join(dir, name)).size);
    diskMiB = Math.max(diskMiB, sizes.reduce((a, b) => a + b) / (1024 * 1024));
  }, 50);
  const cores = await coresUsed(pid, windowMs);
  clearInterval(watch);
  return { memoryMiB, cores, diskMiB };
}

/** Resident memory of a process that runs. @throws Error when it is gone. */
export function memoryOf(pid: number): number {
  const found = residentMiB(pid);
  if (found === null) throw new Error(`process ${pid} is gone`);
  return found;
}
