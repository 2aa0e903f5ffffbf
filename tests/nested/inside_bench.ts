/**
 * How long our child takes from its start to krun_start_enter, and the guest from there to its first mark, beside a C
 * program that makes the same calls.
 *
 * @module
 */
import { join } from "@std/path";
import { ControlPort } from "../../vm/control_port.ts";
import { EventLog } from "../../vm/event.ts";
import { spawnChild } from "../../vm/process.ts";
import type { VmSpec } from "../../vm/spec.ts";
import type { Row } from "../bench/row.ts";
import { type Bench, bootGuest } from "../conformance/guest.ts";

interface Figures {
  readonly toEnter: number;
  readonly toPid1: number;
}

const ROUNDS = 4;

/** Measures, ours and C's by turns, so that both see the same machine. */
export async function benchRows(bench: Bench): Promise<Row[]> {
  const [ours, theirs]: [Figures[], Figures[]] = [[], []];
  for (let round = 0; round < ROUNDS; round++) {
    ours.push(await ourBoot(bench));
    theirs.push(await plainBoot(bench));
  }
  const least = (figures: Figures[], pick: (one: Figures) => number) =>
    Math.min(...figures.map(pick));
  const row = (name: string, pick: (one: Figures) => number): Row => {
    const [a, b] = [least(ours, pick), least(theirs, pick)];
    const note = `${a.toFixed(2)} and ${b.toFixed(2)} s, least of ${ROUNDS}`;
    return { name: `libkrun: ${name}, against C`, value: a / b, unit: "x", limit: 1.25, note };
  };
  return [
    row("krun_start_enter to the PID 1 mark", (one) => one.toPid1),
    row("child's start to the PID 1 mark", (one) => one.toEnter + one.toPid1),
    {
      name: "libkrun: child's start to krun_start_enter",
      value: least(ours, (one) => one.toEnter),
      unit: "s",
      note: `C: ${least(theirs, (one) => one.toEnter).toFixed(2)} s`,
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
  const entered = Date.parse(/, (\S+Z)$/m.exec(log)![1]);
  return { toEnter: (entered - started) / 1000, toPid1: (marked - entered) / 1000 };
}

/** The same plan by the C program, which has no gw.stdio: the guest then waits for it, and that is after the mark. */
async function plainBoot(bench: Bench): Promise<Figures> {
  let spec: VmSpec | undefined;
  {
    await using guest = await bootGuest(bench, { argv: ["/bin/true"] });
    spec = guest.spec;
    await Deno.copyFile(spec.disks[1].path, "/tmp/payload.tar");
  }
  const dir = await Deno.makeTempDir({ prefix: "c-" });
  const [log, console, socket] = ["enter", "console", "s"].map((name) => join(dir, name));
  const log2 = new EventLog();
  let marked = NaN;
  log2.addSink((record) => {
    if (record.kind === "mark" && record.name === "init") marked = record.t;
  });
  const started = Date.now();
  await using child = spawnChild("/gateway/boot", {
    args: [log, spec.kernel.path, spec.kernel.cmdline, console, socket]
      .concat(spec.disks[0].path, "/tmp/payload.tar"),
    env: { LD_LIBRARY_PATH: "/gateway/lib" },
    ownGroup: true,
  });
  const signal = AbortSignal.timeout(bench.timeoutMs);
  using control = await ControlPort.connect(socket, { span: log2.span("c"), signal });
  await control.waitForMark("init", bench.timeoutMs, signal);
  await child.stop(1000);
  const entered = Number(await Deno.readTextFile(log));
  await Deno.remove(dir, { recursive: true });
  return { toEnter: (entered - started) / 1000, toPid1: (marked - entered) / 1000 };
}
