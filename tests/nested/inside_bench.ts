/**
 * How long our child takes from its start to krun_start_enter, and the guest from there to its first mark, beside a C
 * program that makes the same calls.
 *
 * @module
 */
import { join } from "@std/path";
import { EventLog } from "../../vm/base/event.ts";
import { connectUnix } from "../../vm/base/lines.ts";
import { run, spawnChild } from "../../vm/base/process.ts";
import { pause, waitFor } from "../../vm/base/wait.ts";
import { ControlPort } from "../../vm/machine/control_port.ts";
import type { VmSpec } from "../../vm/machine/spec.ts";
import { type Row, seconds } from "../bench/row.ts";
import { type Bench, bootGuest } from "../conformance/guest.ts";

interface Figures {
  readonly toEnter: number;
  readonly toPid1: number;
}

const ROUNDS = 3;
const SETTLE_MS = 6000;

/** Measures, ours and C's by turns and each first by turns, so that both see the same machine. */
export async function benchRows(bench: Bench): Promise<Row[]> {
  const plan = await plainPlan(bench);
  const [ours, theirs, empty]: [Figures[], Figures[], number[]] = [[], [], []];
  const one = async () => void ours.push(await ourBoot(bench));
  const other = async () => void theirs.push(await plainBoot(bench, plan));
  for (let round = 0; round < ROUNDS; round++) {
    for (const boot of round % 2 === 0 ? [one, other] : [other, one]) {
      // What the boot before left behind is still being freed; there is one CPU.
      await pause(SETTLE_MS);
      await boot();
    }
  }
  for (let round = 0; round < ROUNDS; round++) {
    await pause(1000);
    empty.push(await seconds(() => run(Deno.execPath(), { args: ["eval", "0"] })));
  }
  const least = (figures: Figures[], pick: (one: Figures) => number) =>
    Math.min(...figures.map(pick));
  const row = (name: string, pick: (one: Figures) => number): Row => {
    const [a, b] = [least(ours, pick), least(theirs, pick)];
    const all = (figures: Figures[]) => figures.map((one) => pick(one).toFixed(2)).join(" ");
    const note = `${all(ours)} s against ${all(theirs)} s`;
    return { name: `libkrun: ${name}, against C`, value: a / b, unit: "x", limit: 1.25, note };
  };
  return [
    row("krun_start_enter to the PID 1 mark", (one) => one.toPid1),
    row("child's start to the PID 1 mark", (one) => one.toEnter + one.toPid1),
    {
      name: "libkrun: child's start to krun_start_enter",
      value: least(ours, (one) => one.toEnter),
      unit: "s",
      note: `C: ${least(theirs, (one) => one.toEnter).toFixed(2)} s; deno eval 0: ${
        Math.min(...empty).toFixed(2)
      } s`,
    },
  ];
}

async function ourBoot(bench: Bench): Promise<Figures> {
  await using guest = await bootGuest(bench, { argv: ["/bin/sleep", "600"] });
  await guest.control.waitForMark("init", bench.timeoutMs, guest.signal);
  const of = (find: (record: typeof guest.records[number]) => boolean) =>
    guest.records.find(find)!.t;
  const started = of((record) => record.message === "libkrun's process started");
  const marked = of((record) => record.kind === "mark" && record.name === "init");
  const log = await Deno.readTextFile(guest.spec.vmmLogPath);
  const entered = Date.parse(/, (\S+Z)$/m.exec(log)![1]!);
  return { toEnter: (entered - started) / 1000, toPid1: (marked - entered) / 1000 };
}

/** A plan of ours for the C program, with a payload that outlives its guest. */
async function plainPlan(bench: Bench): Promise<VmSpec> {
  await using guest = await bootGuest(bench, { argv: ["/bin/sleep", "600"] });
  const [root, payload] = guest.spec.disks;
  await Deno.copyFile(payload!.path, "/tmp/payload.tar");
  return { ...guest.spec, disks: [root!, { ...payload!, path: "/tmp/payload.tar" }] };
}

/** The same plan by the C program. */
async function plainBoot(bench: Bench, plan: VmSpec): Promise<Figures> {
  const dir = await Deno.makeTempDir({ prefix: "c-" });
  const [logPath, screen, socket, stdio] = [
    join(dir, "enter"),
    join(dir, "console"),
    join(dir, "control"),
    join(dir, "stdio"),
  ];
  const log = new EventLog();
  let marked = NaN;
  log.addSink((record) => {
    if (record.kind === "mark" && record.name === "init") marked = record.t;
  });
  const started = Date.now();
  await using child = spawnChild("/gateway/boot", {
    args: [logPath, plan.kernel.path, plan.kernel.cmdline, screen, socket, stdio]
      .concat(plan.disks.map(({ path }) => path)),
    env: { LD_LIBRARY_PATH: "/gateway/lib" },
    ownGroup: true,
  });
  const signal = AbortSignal.timeout(bench.timeoutMs);
  using control = await ControlPort.connect(socket, { span: log.span("c"), signal });
  using _stdio = await waitFor({
    what: "stdio",
    probe: () => connectUnix(stdio),
    timeoutMs: 5000,
    intervalMs: 5,
    signal,
  });
  await control.waitForMark("init", bench.timeoutMs, signal);
  await child.stop(1000);
  const entered = Number(await Deno.readTextFile(logPath));
  await Deno.remove(dir, { recursive: true });
  return { toEnter: (entered - started) / 1000, toPid1: (marked - entered) / 1000 };
}
