/**
 * Moments of a command that can be observed from outside: a step begins, a file appears or goes, a process runs, the
 * stand-in is asked for something. A test acts at one of them, and never after a fixed time.
 *
 * @module
 */
import { join } from "@std/path";
import { pause } from "../../vm/base/wait.ts";
import type { World } from "./world.ts";

/** Where a moment is looked for. */
export type Place = Pick<World, "home" | "dirOf" | "standIn">;

/** A moment; `arm` is called before the command starts, and what it returns says whether the moment has come. */
export interface Moment {
  readonly name: string;
  /** Only the stand-in can be watched so. */
  readonly standIn?: true;
  readonly arm: (world: Place) => () => boolean;
}

/** A step of an instance's start or of what its supervisor does begins. */
export function step(name: string, instance = "default"): Moment {
  const line = new RegExp(`"kind":"start".*"name":"${name}"`);
  return {
    name: instance === "default" ? `"${name}"` : `"${name}" of ${instance}`,
    arm: (world) => {
      const path = () => join(world.dirOf(instance), "events.jsonl");
      // A start writes the file anew; a running supervisor writes on.
      const before = readText(path());
      // Its first line has the time.
      const [first = ""] = before.split("\n");
      return () => {
        const text = readText(path());
        const same = first !== "" && text.startsWith(first);
        return line.test(same ? text.slice(before.length) : text);
      };
    },
  };
}

/** A file appears in an instance's folder, its path below it. */
export function appears(pattern: RegExp, instance = "default"): Moment {
  return {
    name: `${pattern.source} of ${instance} appears`,
    arm: (world) => {
      const before = new Set(filesOf(world.dirOf(instance)));
      return () =>
        filesOf(world.dirOf(instance)).some((name) => pattern.test(name) && !before.has(name));
    },
  };
}

/** A file of an instance is not there any more. */
export function goes(name: string, instance = "default"): Moment {
  return {
    name: `${name} of ${instance} goes`,
    arm: (world) => () => !filesOf(world.dirOf(instance)).includes(name),
  };
}

/** The record of an instance's run says so. */
export function phase(value: string, instance = "default"): Moment {
  const path = (world: Place) => join(world.dirOf(instance), "run.json");
  return {
    name: `${instance} is ${value}`,
    arm: (world) => () => readText(path(world)).includes(`"phase": "${value}"`),
  };
}

/** A process whose command line has these words runs. */
export function process(words: string): Moment {
  return {
    name: `a process with ${words} runs`,
    arm: ({ home }) => () => home.processes(1e6).some((line) => line.includes(words)),
  };
}

/** The stand-in is about to do this, and waits. */
export function held(what: string): Moment {
  return {
    name: `the VMM is asked to ${what}`,
    standIn: true,
    arm: ({ standIn }) => {
      remove(join(standIn!.top, "held"));
      Deno.writeTextFileSync(join(standIn!.top, "hold"), what);
      return () => readText(join(standIn!.top, "held")) === what;
    },
  };
}

/** Ends a hold; nothing happens where there is none. */
export function release({ standIn }: Place): void {
  if (standIn) remove(join(standIn.top, "hold"));
}

/** Waits for a moment. @throws Error when the command ends first, or after `timeoutMs`. */
export async function reach(
  seen: () => boolean,
  ended: () => string | undefined,
  timeoutMs: number,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!seen()) {
    const words = ended();
    if (words !== undefined && !seen()) throw new Error(`it ended before the moment: ${words}`);
    if (performance.now() > deadline) throw new Error(`no such moment within ${timeoutMs} ms`);
    await pause(1);
  }
}

function readText(path: string): string {
  try {
    return Deno.readTextFileSync(path);
  } catch {
    return "";
  }
}

function remove(path: string): void {
  try {
    Deno.removeSync(path);
  } catch {
    // It is not there.
  }
}

function filesOf(dir: string): string[] {
  const found: string[] = [];
  for (const folder of ["", "snapshots"]) {
    try {
      for (const { name } of Deno.readDirSync(join(dir, folder))) found.push(join(folder, name));
    } catch {
      // It is not there.
    }
  }
  return found;
}
