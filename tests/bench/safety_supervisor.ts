/**
 * What floods of one guest cost the processes of its host that read its console ports: the supervisor, on a stand-in for
 * QEMU, and the host's end of `--exec`.
 *
 * @module
 */
import { fromFileUrl, join } from "@std/path";
import { writeAll } from "../../vm/base/lines.ts";
import { spawnChild } from "../../vm/base/process.ts";
import { coresUsed } from "../../vm/base/process_table.ts";
import { encodeFrame, FRAME } from "../../vm/machine/stdio_port.ts";
import { beginFlood, floodCost, memoryOf } from "../kills/flood.ts";
import { standInWorld } from "../kills/world.ts";
import type { Row } from "./row.ts";

const STDIO_HOST = fromFileUrl(new URL("../fakes/stdio_host.ts", import.meta.url));
const CONFIG = fromFileUrl(new URL("../../deno.json", import.meta.url));

const WINDOW_MS = 15_000;
const MAX_MEMORY_MIB = 150;
const MAX_CORES = 0.5;

/** Memory, processor and disk of a flooded supervisor. */
export async function supervisorSafetyRows(): Promise<Row[]> {
  return [...await floodedSupervisor(), ...await floodedStdio()];
}

async function floodedSupervisor(): Promise<Row[]> {
  await using world = await standInWorld();
  const { home, up } = world;
  await home.ok([...up, "--detach", "--cold"], { timeoutMs: world.patienceMs });
  const before = await floodCost(world, 1000);
  await beginFlood(world);
  const cost = await floodCost(world, WINDOW_MS);
  const name = (what: string) => `supervisor, flood of control port and console: ${what}`;
  const note = `${before.memoryMiB} MiB before it`;
  return [
    { name: name("memory"), value: cost.memoryMiB, unit: "MiB", limit: MAX_MEMORY_MIB, note },
    { name: name("processor"), value: cost.cores, unit: "cores", limit: MAX_CORES },
    { name: name("records and logs"), value: cost.diskMiB, unit: "MiB", limit: 64 },
  ];
}

/** Output is carried as fast as it is read, so that only frames without any have a limit of the processor. */
const STDIO_FLOODS: readonly {
  readonly what: string;
  readonly frames: Uint8Array;
  readonly maxCores?: number;
}[] = [
  { what: "empty frames", frames: framesOf(10_000, 0), maxCores: MAX_CORES },
  { what: "output", frames: framesOf(8, 1024 * 1024) },
];

function framesOf(count: number, size: number): Uint8Array {
  const frame = encodeFrame(FRAME.stderr, new Uint8Array(size));
  const all = new Uint8Array(count * frame.length);
  for (let at = 0; at < count; at++) all.set(frame, at * frame.length);
  return all;
}

async function floodedStdio(): Promise<Row[]> {
  const rows: Row[] = [];
  for (const { what, frames, maxCores } of STDIO_FLOODS) {
    const { memoryMiB, cores } = await stdioCost(frames);
    const name = (measure: string) => `--exec, flood of ${what}: ${measure}`;
    rows.push(
      { name: name("memory"), value: memoryMiB, unit: "MiB", limit: MAX_MEMORY_MIB },
      { name: name("processor"), value: cores, unit: "cores", limit: maxCores },
    );
  }
  return rows;
}

async function stdioCost(frames: Uint8Array) {
  const dir = await Deno.makeTempDir();
  const path = join(dir, "stdio");
  using listener = Deno.listen({ transport: "unix", path });
  await using host = spawnChild(Deno.execPath(), {
    args: ["run", "--quiet", "--no-check", "-A", "--config", CONFIG, STDIO_HOST, path],
  });
  using guest = await listener.accept();
  const flooding = (async () => {
    for (;;) await writeAll(guest, frames);
  })().catch(() => {});
  let memoryMiB = 0;
  const watch = setInterval(() => memoryMiB = Math.max(memoryMiB, memoryOf(host.pid)), 50);
  const cores = await coresUsed(host.pid, WINDOW_MS);
  clearInterval(watch);
  await host.stop(1000);
  await flooding;
  await Deno.remove(dir, { recursive: true });
  return { memoryMiB, cores };
}
