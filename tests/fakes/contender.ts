/**
 * One of several processes that make, fork, start, stop and remove an instance of one name, again and again, and print what
 * they won. It stands for the VMM by a process that it starts itself.
 *
 * @module
 */
import { join } from "@std/path";
import { place } from "../../bootstrap/saved/fork.ts";
import { openInstance } from "../../bootstrap/start/up.ts";
import { GatewayError } from "../../vm/base/error.ts";
import { spawnChild } from "../../vm/base/process.ts";
import { identifyProcess } from "../../vm/base/process_table.ts";
import { findInstance, removeInstance } from "../../vm/instance/instance.ts";
import { readState } from "../../vm/instance/saved_state.ts";
import { instanceConfig } from "./instance_config.ts";
import { runRecord } from "./run_record.ts";

const name = Deno.args[0]!;
const rounds = Number(Deno.args[1]);
const sourceDir = Deno.args[2]!;
const signal = new AbortController().signal;
const config = () => instanceConfig({ name, createdAt: crypto.randomUUID() });

/** `made`: starts that made a new instance. */
const won = { up: 0, made: 0, fork: 0, rm: 0 };
const wrong: string[] = [];

/** What others may make of each attempt. */
const LOST = ["instance-running", "instance-unknown", "usage"];

/** Writes to a file that only one process at a time may have: two holders of one lock are found by it. */
async function alone(work: () => Promise<void>): Promise<void> {
  const path = join(sourceDir, "holder");
  await Deno.writeTextFile(path, String(Deno.pid), { createNew: true });
  await work();
  if (await Deno.readTextFile(path) !== String(Deno.pid)) throw new Error("two holders");
  await Deno.remove(path);
}

async function up(): Promise<"up"> {
  const stored = (await findInstance(name))?.config ?? config();
  await using instance = await openInstance(stored, signal);
  if (instance.created) won.made++;
  await alone(async () => {
    await instance.saveConfig(stored);
    await Deno.writeTextFile(instance.paths.stateDisk, "disk");
    await using vmm = spawnChild("sleep", { args: ["30"] });
    const { runtimeDir } = instance.paths;
    await instance.saveRun(runRecord({ vmm: identifyProcess(vmm.pid)!, runtimeDir }));
    // Nobody takes the sockets of a running instance away.
    await Deno.writeTextFile(join(instance.paths.runtimeDir, "socket"), "");
    await Deno.stat(instance.paths.instanceFile);
    await Deno.stat(join(instance.paths.runtimeDir, "socket"));
    if (!identifyProcess(vmm.pid)) throw new Error("its VMM was ended by another command");
  });
  return "up";
}

async function fork(): Promise<"fork"> {
  const state = (await readState(join(sourceDir, "snapshot.json")))!;
  const from = { name: "source", pkiDir: sourceDir, k3sYaml: null };
  await place({ dir: sourceDir, state, from }, config(), signal);
  return "fork";
}

async function rm(): Promise<"rm"> {
  await removeInstance(name, () => alone(() => Promise.resolve()));
  return "rm";
}

for (let round = 0; round < rounds; round++) {
  // In a fixed order the processes fall into step, and one kind of attempt may never win.
  const attempt = [up, fork, rm][Math.floor(Math.random() * 3)]!;
  try {
    won[await attempt()]++;
  } catch (error) {
    if (error instanceof GatewayError && LOST.includes(error.code)) continue;
    wrong.push(`${attempt.name}: ${error instanceof Error ? error.stack : error}`);
  }
}
await Deno.stdout.write(new TextEncoder().encode(JSON.stringify({ won, wrong })));
