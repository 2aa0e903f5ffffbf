/**
 * Figures of memory: what a running clone takes beside what it shares.
 *
 * @module
 */
import { pause } from "../../vm/base/wait.ts";
import { Client } from "../vm/client.ts";
import { freePort, TestHome } from "../vm/harness.ts";
import type { Row } from "./row.ts";

const SIZE = ["--memory", "4096", "--cpus", "2"];
const UP_TIMEOUT_MS = 20 * 60_000;

/** Measures. */
export async function forkMemoryRows(): Promise<Row[]> {
  await using home = await TestHome.make();
  const client = new Client(home);
  await home.ok(["build", "golden", ...SIZE], { timeoutMs: UP_TIMEOUT_MS });
  return [
    ...await memoryRows(home, client, "from the golden state", []),
    ...await memoryRows(home, client, "started cold", ["--cold"]),
  ];
}

/** An emulator gives back what a start made it translate, once the guest is idle. */
const IDLE_MS = 30_000;
const FORK_IDLE_MS = 30_000;

/** What the third fork of an instance takes of this host's memory, beside what it shares, against that instance alone. */
async function memoryRows(
  home: TestHome,
  client: Client,
  how: string,
  flags: readonly string[],
): Promise<Row[]> {
  const port = ["--port", `${freePort()}:30051`];
  await home.ok(["up", "--detach", ...port, ...SIZE, ...flags], { timeoutMs: UP_TIMEOUT_MS });
  await pause(IDLE_MS);
  const first = (await memoryMiB(client, "default")).pss;
  const names = ["one", "two", "three"];
  for (const name of names) {
    await home.ok(["fork", "default", name]);
    await pause(FORK_IDLE_MS);
  }
  const third = (await memoryMiB(client, "three")).own;
  const all = await Promise.all(["default", ...names].map((name) => memoryMiB(client, name)));
  const together = all.reduce((sum, { pss }) => sum + pss, 0);
  for (const name of ["default", ...names]) await home.ok(["rm", "--force", name]);
  return [{
    name: `memory the third idle fork adds, against the first instance, ${how}`,
    value: third / first,
    unit: "x",
    limit: 0.25,
    note: [first, third, together].map((mib) => mib.toFixed(0)).join(", ") +
      " MiB: the first alone, what is the third's own, all four",
  }];
}

/**
 * Memory of an instance's VMM: its share of everything that it has mapped, and what would be free without it (the sum of
 * the shares of all grows by just that, whatever the others do meanwhile).
 */
async function memoryMiB(client: Client, name: string): Promise<{ pss: number; own: number }> {
  const { processes } = await client.status(name);
  const { pid } = processes.find(({ role }) => role === "vmm")!;
  const text = await Deno.readTextFile(`/proc/${pid}/smaps_rollup`);
  const mib = (key: string) =>
    Number(new RegExp(`^${key}:\\s+(\\d+) kB`, "m").exec(text)![1]) / 1024;
  return { pss: mib("Pss"), own: mib("Private_Clean") + mib("Private_Dirty") };
}
