/**
 * One case of the kill table: brings the instance to where it begins, acts at the moment, and looks at what is left.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { run } from "../../vm/base/process.ts";
import { isAlive, type ProcessId } from "../../vm/base/process_table.ts";
import { pause, waitFor, within } from "../../vm/base/wait.ts";
import type { Background } from "../vm/harness.ts";
import { unnamedStateFiles } from "../vm/instance_files.ts";
import { reach, release } from "./moments.ts";
import type { Deed, Point, Victim } from "./table.ts";
import { atRest, type Listed, listed, runOf, type World } from "./world.ts";

/** What happens at the moment. `power`: everything ends, and what was not on the disk is gone. */
export type Act =
  | { readonly kind: "kill"; readonly victim: Victim }
  | { readonly kind: "down" | "interrupt" }
  | { readonly kind: "power"; readonly cut: () => Promise<void> };

/** The name of a case. */
export function caseName(deed: Deed, { at, of }: Point, act: Act): string {
  const what = act.kind === "kill"
    ? `kill -9 of ${act.victim === "command" || of === undefined ? "" : `${of}'s `}${act.victim}`
    : { down: "down", interrupt: "Ctrl-C", power: "power cut" }[act.kind];
  return `${deed.name}: ${what} when ${at.name}`;
}

/** The number that the guest was told last. */
let last = 0;
const next = () => last = last % 250 + 1;
/** What the snapshot `base` remembers. */
const BASE = 251;

/** Runs it. */
export async function runCase(world: World, deed: Deed, point: Point, act: Act): Promise<void> {
  const number = await prepare(world, deed);
  if (deed.edits) await world.edit("second");
  const seen = point.at.arm(world);
  const input = await feedImage(world, deed);
  await using command = await world.home.start(deed.words(world));
  let over = false;
  void command.exited.then(() => over = true);
  try {
    await reach(seen, () => over ? command.text() : undefined, world.patienceMs);
    await perform(world, command, point, act);
  } finally {
    release(world);
    input.close();
  }
  const exit = await within(command.exited, 60_000);
  assert(exit, `the command goes on for a minute: ${command.text()}`);
  if (act.kind === "interrupt") assert([0, 1, 130].includes(exit.code), command.text());
  await atRest(world);
  await check(world, deed, number);
}

/** Brings `default` to where the command begins; gives what its guest remembers. */
async function prepare(world: World, deed: Deed): Promise<number | undefined> {
  const { home } = world;
  const { before } = deed;
  const state = (await listed(world)).find(({ name }) => name === "default")?.state;
  if (before === "absent") {
    if (state) await home.ok(["rm", "--force", "default"]);
    if (deed.builds && world.standIn) {
      const golden = join(world.standIn.top, "cache/gateway/golden");
      await Deno.remove(golden, { recursive: true }).catch(() => {});
    }
    return undefined;
  }
  if (!isRunning(state)) await home.ok([...world.up, "--detach"], { timeoutMs: world.patienceMs });
  if (before === "snapshot") {
    await world.write(BASE);
    await home.call(["snapshot", "rm", "base"]);
    await home.ok(["snapshot", "create", "base"]);
  }
  const number = next();
  await world.write(number);
  if (before === "stopped") await home.ok(["down"], { timeoutMs: 120_000 });
  if (before === "suspended") await home.ok(["suspend"]);
  return number;
}

const isRunning = (state: string | undefined) => state === "running";

/** The archive of `image load` is a pipe: the import goes on until it is closed. */
async function feedImage(world: World, { name }: Deed): Promise<{ close(): void }> {
  if (name !== "image load") return { close: () => {} };
  const path = join(world.home.home, "image.tar");
  await run("mkfifo", { args: [path] });
  // Opened for reading, too: so it neither waits for the reader nor ends with it.
  const writer = await Deno.open(path, { read: true, write: true });
  await writer.write(new Uint8Array(1024));
  return {
    close: () => {
      writer.close();
      Deno.removeSync(path);
    },
  };
}

async function perform(
  world: World,
  command: Background,
  { of = "default" }: Point,
  act: Act,
): Promise<void> {
  switch (act.kind) {
    case "kill": {
      try {
        Deno.kill(await findVictim(world, command, of, act.victim), "SIGKILL");
      } catch {
        // It was done already: the shortest case of all.
      }
      return;
    }
    case "interrupt":
      return command.signal("SIGINT");
    case "power":
      return await act.cut();
    case "down": {
      release(world);
      const { code, stderr } = await world.home.call(["down"], { timeoutMs: 150_000 });
      // There is nothing to stop before an instance is one, and while it is removed.
      const unknown = /Cannot find the instance/.test(stderr);
      assert(code === 0 || unknown, stderr);
    }
  }
}

/** The process that is to be killed; it may start a moment later. @throws Error when the command ends first. */
async function findVictim(
  world: World,
  command: Background,
  instance: string,
  victim: Victim,
): Promise<number> {
  if (victim === "command") return command.pid;
  let over = false;
  void command.exited.then(() => over = true);
  for (;;) {
    const pid = pidOf(world, instance, victim);
    if (pid !== undefined) return pid;
    // Before there is a record the command is the supervisor.
    if (victim === "supervisor") return command.pid;
    if (over) throw new Error(`there was no ${victim} any more`);
    await pause(1);
  }
}

/** A process of a run; its record has it once the VM is attached, before that its command line. */
function pidOf(world: World, instance: string, role: Exclude<Victim, "command">) {
  const record = runOf(world, instance);
  const alive = (id: ProcessId | null | undefined) => id && isAlive(id) ? id.pid : undefined;
  const recorded = alive(record?.[role]);
  if (recorded !== undefined || role === "supervisor") return recorded;
  const mark = role === "vmm" ? `-name gateway-${instance} ` : `/${instance}/gvproxy.json`;
  const line = world.home.processes(1e6).find((text) => text.includes(mark));
  return line === undefined ? undefined : parseInt(line);
}

/** What is listed is whole, the next command works, and what was synced is there. */
async function check(world: World, deed: Deed, number: number | undefined): Promise<void> {
  const { home } = world;
  const instances = await listed(world);
  // A folder that is no instance yet, or no longer, is shown as what a killed command has left; the next one removes it.
  const wrong = instances.filter(({ name, state, unfinished }) =>
    !["default", "clone"].includes(name) || !(STATES.includes(state) || unfinished)
  );
  assertEquals(wrong, []);
  const runs = instances.some(({ state }) => isRunning(state));
  const crashed = instances.some(({ state }) => state === "crashed");
  // Sockets and record of a run that was killed go with the next command: with every other one it is `down`.
  if (crashed && last % 2 === 0) await home.ok(["down"]);
  if (!runs && (!crashed || last % 2 === 0)) {
    const left = (await home.leftovers()).filter((path) => !TEMPORARY.test(path));
    assertEquals([home.processes(), left], [[], []]);
  }
  const clone = instances.find(({ name, unfinished }) => name === "clone" && !unfinished);
  if (clone) await checkClone(world, clone, number!);
  const mine = instances.find(({ name, unfinished }) => name === "default" && !unfinished);
  await world.edit("first");
  if (!isRunning(mine?.state)) {
    await home.ok([...world.up, "--detach"], { timeoutMs: world.patienceMs });
    await waitFor({
      what: "the end of temporary files",
      probe: async () =>
        !(await home.leftovers()).some((path) => TEMPORARY.test(path)) || undefined,
      timeoutMs: 10_000,
    });
  }
  await checkSnapshots(world, deed, number);
  const found = await world.read();
  const allowed = deed.mayReturnTo ? [number, BASE] : [number];
  if (mine && number !== undefined) assert(allowed.includes(found), `${found}, not ${allowed}`);
  // Of a guest that went on, the lowest layer of the memory is kept for the next save.
  const events = await home.events("default");
  if (!events.some(({ message }) => message?.startsWith("going on from"))) {
    assertEquals(await unnamedStateFiles(world.dirOf("default")), []);
  }
  await checkTorn(world);
}

/** A file that was being written; the next start or removal takes it away. */
const TEMPORARY = /\.tmp-[0-9a-f]{8}$/;
const STATES = ["running", "stopped", "suspended", "crashed"];

/** A clone that is listed starts, and remembers what its source did. */
async function checkClone(world: World, clone: Listed, number: number): Promise<void> {
  const { home } = world;
  if (!isRunning(clone.state)) {
    await home.ok(["up", "--detach", "--name", "clone"], { timeoutMs: world.patienceMs });
  }
  assertEquals(await world.read("clone"), number);
  await home.ok(["rm", "--force", "clone"], { timeoutMs: 120_000 });
}

/** Snapshots that are listed can be restored; none of a fork is. */
async function checkSnapshots(
  world: World,
  deed: Deed,
  number: number | undefined,
): Promise<void> {
  const { home } = world;
  const list = async () =>
    JSON.parse((await home.ok(["snapshot", "list", "--json"])).stdout) as { name: string }[];
  for (const { name } of await list()) {
    assert(["base", "half"].includes(name), name);
    if (name === "half" || deed.mayReturnTo) {
      await home.ok(["snapshot", "restore", name], { timeoutMs: world.patienceMs });
      assertEquals(await world.read(), name === "half" ? number : BASE);
    }
    if (name === "half") await home.ok(["snapshot", "rm", name]);
  }
}

/** The stand-in has seen no memory that met another disk. */
async function checkTorn({ standIn }: World): Promise<void> {
  if (!standIn) return;
  const path = join(standIn.top, "torn");
  const text = await Deno.readTextFile(path).catch(() => "");
  await Deno.remove(path).catch(() => {});
  assertEquals(text, "");
}
