/**
 * Where the kill table runs: in a home with stand-ins, or in one with real VMs. Both have the same command line, and a guest
 * that keeps a number.
 *
 * @module
 */
import { assert } from "@std/assert";
import { join } from "@std/path";
import { parseEventLine } from "../../vm/base/event.ts";
import { isAlive } from "../../vm/base/process_table.ts";
import { waitFor } from "../../vm/base/wait.ts";
import type { RunRecord } from "../../vm/instance/instance.ts";
import { HELLO_PORT, writeHello } from "../fakes/hello_payload.ts";
import { type Edition, guestNote, makeStandIn, type StandIn } from "../fakes/stand_in.ts";
import { freePort, TestHome } from "../vm/harness.ts";

/** A place for the table's commands. */
export interface World extends AsyncDisposable {
  readonly home: TestHome;
  /** Undefined where there are VMs. */
  readonly standIn: StandIn | undefined;
  /** What every start of `default` is given. */
  readonly up: readonly string[];
  /** The folder of an instance, of that of a golden build where it is called `golden`. */
  readonly dirOf: (instance: string) => string;
  /** Writes one of two editions of the payload that `default` runs. */
  readonly edit: (edition: Edition) => Promise<void>;
  /** Writes the guest's number, of `default` unless told, and syncs. */
  readonly write: (number: number, instance?: string) => Promise<void>;
  /** What the guest has in its memory and on its disk, which must be the same. */
  readonly read: (instance?: string) => Promise<number>;
  /** How long a command may take to come to a moment, and its processes to end. */
  readonly patienceMs: number;
}

/** One with stand-ins. `prepare` is called before anything is in it. */
export async function standInWorld(
  prepare: (home: TestHome) => Promise<void> = () => Promise.resolve(),
): Promise<World> {
  const standIn = await makeStandIn();
  const { home, top, edit } = standIn;
  await prepare(home);
  return {
    ...{ home, standIn, edit },
    ...{ up: upWords(30051, ["--memory", "1536", "--cpus", "1"]), patienceMs: 60_000 },
    dirOf: (instance) => dirOf(home, join(top, "cache"), instance),
    write: async (number, instance = "default") => void await guestNote(home, instance, number),
    read: async (instance = "default") => {
      const { memory, disk } = await guestNote(home, instance);
      assert(memory === disk, `memory has ${memory}, disk has ${disk}`);
      return memory;
    },
    [Symbol.asyncDispose]: () => standIn[Symbol.asyncDispose](),
  };
}

/** One with VMs, whose instances go on from the golden state. */
export async function vmWorld(): Promise<World> {
  const home = await TestHome.make();
  const payload = join(home.home, "payload");
  const edit = (edition: Edition) => writeHello(payload, { edition });
  await edit("first");
  const sh = async (script: string, instance = "default") =>
    (await home.ok(["exec", "--name", instance, "--", "sh", "-c", script])).stdout;
  const cache = home.env.XDG_CACHE_HOME!;
  return {
    ...{ home, standIn: undefined, edit, patienceMs: 20 * 60_000 },
    up: upWords(HELLO_PORT, ["--memory", "3072", "--cpus", "2", "--payload", payload]),
    dirOf: (instance) => dirOf(home, cache, instance),
    write: async (number, instance = "default") => {
      const script = `echo ${number} >/root/number; echo ${number} >/dev/shm/number; sync`;
      await sh(script, instance);
    },
    read: async (instance = "default") => {
      // After a start from the disk nothing is in the memory.
      const text = await sh("cat /root/number /dev/shm/number 2>/dev/null", instance);
      const numbers = text.trim().split("\n").map(Number);
      assert(new Set(numbers).size === 1, `memory and disk differ: ${numbers}`);
      return numbers[0]!;
    },
    [Symbol.asyncDispose]: () => home[Symbol.asyncDispose](),
  };
}

function upWords(port: number, more: readonly string[]): string[] {
  return ["up", "--port", `${freePort()}:${port}`, "--no-kube-api", "--disk", "1024", ...more];
}

function dirOf(home: TestHome, cache: string, instance: string): string {
  if (instance !== "golden") return join(home.home, "data/gateway/instances", instance);
  const root = join(cache, "gateway/golden");
  try {
    for (const { name } of Deno.readDirSync(root)) {
      if (name.endsWith(".build")) return join(root, name, "data/gateway/instances/golden");
    }
  } catch {
    // No build yet.
  }
  return join(root, "none");
}

/** The record of an instance's run as it is now. */
export function runOf(world: World, instance: string): RunRecord | undefined {
  try {
    return JSON.parse(Deno.readTextFileSync(join(world.dirOf(instance), "run.json")));
  } catch {
    return undefined;
  }
}

/** An instance as `list` shows it. */
export interface Listed {
  readonly name: string;
  readonly state: string;
  /** What a killed command has left of one. */
  readonly unfinished?: boolean;
}

/** All of them. */
export async function listed({ home }: World): Promise<Listed[]> {
  return JSON.parse((await home.ok(["list", "--json"])).stdout);
}

/** The processes of an instance that is ready and whose supervisor has nothing to do; empty for any other. */
function settledRun(world: World, instance: string): number[] {
  const run = runOf(world, instance);
  if (run?.phase !== "ready") return [];
  const ids = [run.supervisor, run.vmm, run.gvproxy].filter((id) => id !== null);
  if (ids.length < 3 || !ids.every(isAlive)) return [];
  const open = new Set<number>();
  const text = Deno.readTextFileSync(join(world.dirOf(instance), "events.jsonl"));
  for (const record of text.split("\n").map(parseEventLine)) {
    const saves = record?.name === "snapshot" || record?.name === "suspend";
    if (record?.kind === "start" && saves) open.add(record.id);
    if (record?.kind === "end") open.delete(record.id);
  }
  return open.size > 0 ? [] : ids.map(({ pid }) => pid);
}

/** A connection that is kept for an instance's commands, before and after it has named itself. */
const KEPT_SSH = /^\d+ (ssh: |\S*ssh -F \S+ -fN )/;

/** Waits until nothing runs but instances that are ready: no command, no VM without a supervisor, no build. */
export async function atRest(world: World): Promise<void> {
  const busy = () => {
    const settled = new Set(["default", "clone"].flatMap((name) => settledRun(world, name)));
    // It ends with its guest.
    return world.home.processes().filter((line) =>
      !settled.has(parseInt(line)) && !KEPT_SSH.test(line)
    );
  };
  try {
    await waitFor({
      what: "the end of everything but running instances",
      probe: () => Promise.resolve(busy().length === 0 || undefined),
      timeoutMs: 90_000,
      intervalMs: 20,
    });
  } catch (error) {
    throw new Error(`still running:\n${busy().join("\n")}`, { cause: error });
  }
}
