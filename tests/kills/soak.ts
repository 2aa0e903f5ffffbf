/**
 * The soak: the same commands again and again beside an instance that runs all the time, and what each round leaves.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { run } from "../../vm/base/process.ts";
import { freePort } from "../vm/harness.ts";
import { memoryOf } from "./flood.ts";
import { grows, growthOf } from "./growth.ts";
import { atRest, runOf, type World } from "./world.ts";

/** What is counted after each round. */
export type Measure =
  | "descriptors of the supervisor"
  | "sockets of the supervisor"
  | "memory of the supervisor (MiB)"
  | "descriptors of gvproxy"
  | "memory of gvproxy (MiB)"
  | "descriptors of the VMM"
  | "processes"
  | "socket files"
  | "memory files (MiB)"
  | "disk (MiB)";

/** A rise below this is of no interest. */
const LEAST: Readonly<Record<Measure, number>> = {
  "descriptors of the supervisor": 1,
  "sockets of the supervisor": 1,
  "memory of the supervisor (MiB)": 8,
  "descriptors of gvproxy": 1,
  "memory of gvproxy (MiB)": 8,
  "descriptors of the VMM": 1,
  "processes": 1,
  "socket files": 1,
  "memory files (MiB)": 1,
  "disk (MiB)": 16,
};

/** By measure, one value for each round. */
export type Series = Readonly<Record<Measure, readonly number[]>>;

/** Runs the rounds; `onRound` hears how many are done. */
export async function soak(
  world: World,
  rounds: number,
  onRound: (done: number) => void,
): Promise<Series> {
  const { home, up, patienceMs } = world;
  await home.ok([...up, "--detach"], { timeoutMs: patienceMs });
  await world.write(1);
  const found = Object.fromEntries(
    Object.keys(LEAST).map((name) => [name, []]),
  ) as unknown as Record<Measure, number[]>;
  for (let at = 0; at < rounds; at++) {
    await round(world, at + 1);
    await atRest(world);
    for (const [name, value] of Object.entries(await measure(world))) {
      found[name as Measure].push(value);
    }
    onRound(at + 1);
  }
  return found;
}

/** One round: what a user does with an instance from its first start to its removal, and two commands for the one that stays. */
async function round(world: World, number: number): Promise<void> {
  const { home, up, patienceMs } = world;
  const timeoutMs = patienceMs;
  const at = up.indexOf("--port");
  const mine = [...up.slice(0, at + 1), up[at + 1]!.replace(/^\d+/, String(freePort()))];
  const words = [...mine, ...up.slice(at + 2), "--name", "round", "--detach"];
  await home.ok(words, { timeoutMs });
  await world.write(number, "round");
  await home.ok(["fork", "round", "clone"], { timeoutMs });
  assertEquals(await world.read("clone"), number);
  await home.ok(["rm", "--force", "clone"], { timeoutMs });
  await home.ok(["suspend", "round"], { timeoutMs });
  await home.ok(["resume", "round"], { timeoutMs });
  assertEquals(await world.read("round"), number);
  await home.ok(["snapshot", "create", "kept", "--name", "round"], { timeoutMs });
  await home.ok(["down", "round"], { timeoutMs });
  await home.ok(["rm", "round"], { timeoutMs });
  await home.ok(["snapshot", "create", "kept"], { timeoutMs });
  await home.ok(["snapshot", "rm", "kept"], { timeoutMs });
  await home.ok(["fork", "default", "clone"], { timeoutMs });
  assertEquals(await world.read("clone"), 1);
  await home.ok(["rm", "--force", "clone"], { timeoutMs });
}

async function measure(world: World): Promise<Record<Measure, number>> {
  const { supervisor, vmm, gvproxy } = runOf(world, "default")!;
  const own = descriptors(supervisor.pid);
  return {
    "descriptors of the supervisor": own.length,
    "sockets of the supervisor": own.filter((target) => target.startsWith("socket:")).length,
    "memory of the supervisor (MiB)": memoryOf(supervisor.pid),
    "descriptors of gvproxy": descriptors(gvproxy!.pid).length,
    "memory of gvproxy (MiB)": memoryOf(gvproxy!.pid),
    "descriptors of the VMM": descriptors(vmm!.pid).length,
    "processes": world.home.processes().length,
    "socket files": (await world.home.leftovers()).length,
    "memory files (MiB)": await usedMiB("/dev/shm"),
    "disk (MiB)": await usedMiB(join(world.home.home, "data")),
  };
}

function descriptors(pid: number): string[] {
  const found: string[] = [];
  for (const { name } of Deno.readDirSync(`/proc/${pid}/fd`)) {
    try {
      found.push(Deno.readLinkSync(`/proc/${pid}/fd/${name}`));
    } catch {
      // Closed meanwhile.
    }
  }
  return found;
}

async function usedMiB(path: string): Promise<number> {
  const { stdout } = await run("du", { args: ["-sm", path], check: false });
  return Number.parseInt(stdout);
}

/** The series as a table in Markdown. */
export function soakTable(series: Series): string {
  const rows = Object.entries(series).map(([name, values]) => {
    const { rise, scatter } = growthOf(values);
    const cells = [values[0], values.at(-1), rise.toFixed(1), scatter.toFixed(1)];
    return `| ${name} | ${cells.join(" | ")} |`;
  });
  return [
    "| | after the first round | after the last | rise in the second half | scatter |",
    "|---|---|---|---|---|",
    ...rows,
  ].join("\n");
}

/** The measures that grow. */
export function growing(series: Series): string[] {
  return Object.entries(series).filter(([name, values]) => grows(values, LEAST[name as Measure]))
    .map(([name]) => name);
}
