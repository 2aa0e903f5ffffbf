/**
 * Figures of saved states: a suspended cluster awake again, a new instance from the golden state, snapshots, forks, and
 * what those take of the disk. Ten of each, median and worst.
 *
 * @module
 */
import { join } from "@std/path";
import { waitFor } from "../../vm/base/wait.ts";
import { Client } from "../vm/client.ts";
import { freePort, TestHome } from "../vm/harness.ts";
import { median, type Row, seconds } from "./row.ts";

const SIZE = ["--memory", "4096", "--cpus", "2"];
const UP_TIMEOUT_MS = 20 * 60_000;
const TIMES = 10;
const MIB = 1024 * 1024;

/** Measures. */
export async function instantRows(): Promise<Row[]> {
  await using home = await TestHome.make();
  const client = new Client(home);
  await home.ok(["build", "golden", ...SIZE], { timeoutMs: UP_TIMEOUT_MS });
  return [
    ...await newInstanceRows(home, client),
    ...await snapshotRows(home),
    ...await suspendRows(home, client),
    ...await forkRows(home, client),
  ];
}

const ten = async (measure: (at: number) => Promise<number>) => {
  const values: number[] = [];
  for (let at = 0; at < TIMES; at++) values.push(await measure(at));
  return values.sort((a, b) => a - b);
};

function medianAndWorst(name: string, values: readonly number[], limit?: number): Row[] {
  return [
    { name: `${name}, median of ${values.length}`, value: median(values), unit: "s", limit },
    { name: "the same, worst", value: values.at(-1)!, unit: "s" },
  ];
}

/** Each instance is made, answers a client by its own certificates, and is removed; the last one stays as "default". */
async function newInstanceRows(home: TestHome, client: Client): Promise<Row[]> {
  const loaded: number[] = [];
  const made = await ten(async (at) => {
    const name = at === TIMES - 1 ? "default" : `new-${at}`;
    const took = await seconds(async () => {
      await home.ok(["up", "--detach", "--name", name, "--port", `${freePort()}:30051`, ...SIZE]);
      if (!await client.answers(name)) throw new Error("it does not answer");
    });
    const events = await home.events(name);
    const exec = events.find(({ message }) => message === "QEMU started")!.t;
    const end = events.find((one) => one.kind === "end" && one.name === "start vm")!.t;
    loaded.push((end - exec) / 1000);
    if (name !== "default") await home.ok(["rm", "--force", name]);
    return took;
  });
  loaded.sort((a, b) => a - b);
  return [
    ...medianAndWorst("new instance to an answer with its own certificates", made, 6),
    ...medianAndWorst("QEMU's exec to memory and devices loaded", loaded, 0.1),
  ];
}

async function snapshotRows(home: TestHome): Promise<Row[]> {
  const pauses = await ten(async (at) => {
    const { stdout } = await home.ok(["snapshot", "create", `s-${at}`, "--json"]);
    await home.ok(["snapshot", "rm", `s-${at}`]);
    return JSON.parse(stdout).pauseMs / 1000;
  });
  return medianAndWorst("the guest's pause of a snapshot, 4 GiB", pauses, 0.3);
}

async function suspendRows(home: TestHome, client: Client): Promise<Row[]> {
  const slept: number[] = [];
  const report = await client.status();
  const woken = await ten(async () => {
    slept.push(await seconds(() => home.ok(["suspend"])));
    return await seconds(async () => {
      await home.ok(["up", "--detach"]);
      if ((await client.curl(report)).code !== 0) throw new Error("it does not answer");
    });
  });
  slept.sort((a, b) => a - b);
  return [
    ...medianAndWorst("suspend, the whole command", slept),
    ...medianAndWorst("up -d of a suspended cluster to an answer", woken, 1.5),
  ];
}

async function forkRows(home: TestHome, client: Client): Promise<Row[]> {
  const dir = (name: string) => join(home.home, "data/gateway/instances", name);
  const forked = await ten(async (at) => {
    const name = `fork-${at}`;
    const took = await seconds(async () => {
      await home.ok(["fork", "default", name]);
      if (!await client.answers(name)) throw new Error("it does not answer");
    });
    await home.ok(["rm", "--force", name]);
    return took;
  });
  let blocks = 0;
  for (const name of ["one", "two", "three"]) {
    const before = await ownBlocks(dir("default"));
    await home.ok(["fork", "default", name]);
    const added = await ownBlocks(dir(name)) + await ownBlocks(dir("default")) - before;
    blocks = Math.max(blocks, added);
  }
  for (const name of ["default", "one", "two", "three"]) await home.ok(["rm", "--force", name]);
  return [
    ...medianAndWorst("fork to an answer with its own certificates", forked),
    { name: "disk blocks that a fork adds", value: blocks / MIB, unit: "MiB", limit: 32 },
  ];
}

/** Bytes on disk of files that nothing else links to. */
async function ownBlocks(dir: string): Promise<number> {
  let bytes = 0;
  await waitFor({
    what: "the files of an instance",
    probe: async () => {
      bytes = 0;
      for await (const entry of Deno.readDir(dir)) {
        if (!entry.isFile) continue;
        const info = await Deno.lstat(join(dir, entry.name));
        if (info.nlink === 1) bytes += (info.blocks ?? 0) * 512;
      }
      return true;
    },
    timeoutMs: 5000,
  });
  return bytes;
}
