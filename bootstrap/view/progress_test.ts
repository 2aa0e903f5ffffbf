import { assert, assertEquals } from "@std/assert";
import { EventLog, type EventRecord } from "../../vm/base/event.ts";
import {
  EMPTY_PROGRESS,
  plainLines,
  type ProgressState,
  reduceProgress,
  renderLive,
} from "./progress.ts";

const START_MS = 1_700_000_000_000;

/** Records of a made-up run; `at` sets the clock in seconds. */
function record(fn: (log: EventLog, at: (seconds: number) => void) => void): EventRecord[] {
  let nowMs = START_MS;
  const log = new EventLog(() => nowMs);
  const records: EventRecord[] = [];
  log.addSink((r) => void records.push(r));
  fn(log, (seconds) => nowMs = START_MS + seconds * 1000);
  return records;
}

function reduce(records: readonly EventRecord[]): ProgressState {
  return records.reduce(reduceProgress, EMPTY_PROGRESS);
}

function build(): EventRecord[] {
  return record((log, at) => {
    const up = log.span("up");
    const check = up.child("check host");
    at(0.04);
    check.end();
    const artifacts = up.child("artifacts");
    const kernel = artifacts.child("Linux 6.12 kernel");
    const root = artifacts.child("root image");
    const cluster = artifacts.child("cluster binary");
    const pause = artifacts.child("image pause");
    pause.end();
    kernel.progress(300, 1200, "files");
    root.child("mmdebstrap").log(
      "Setting up \x1b[1mlibc6\x1b[0m (2.41-12) and quite a lot of other packages",
    );
    cluster.child("download").progress(5 * 1024 * 1024, null, "bytes");
    up.warn("the software KVM of this machine cannot run guests: TCG is used");
  });
}

function boot(): EventRecord[] {
  return record((log, at) => {
    const up = log.span("up");
    const pki = up.child("pki");
    at(0.2);
    pki.end();
    const vm = up.child("start vm");
    at(6);
    vm.end();
    const guest = up.child("guest up");
    up.mark("init", 1.2);
    at(8);
    up.mark("network", 3.25, { address: "192.168.127.2" });
    guest.end(new Error("the guest\nstopped"));
    up.end(new Error("the guest stopped"));
  });
}

Deno.test("renderLive() gives the golden lines while artifacts are built side by side", () => {
  const lines = renderLive(reduce(build()), {
    width: 120,
    nowMs: START_MS + 187_240,
    color: false,
  });
  assertEquals(lines, [
    "✓ check host                                                               0.0 s",
    "⠹ artifacts                                                                 3:07",
    "    Linux 6.12 kernel      ████░░░░░░░░░░░░ 300 of 1200 files               3:07",
    "    root image  Setting up libc6 (2.41-12) and quite a lot of other p…      3:07",
    "    cluster binary         5.0 MiB                                          3:07",
    "! the software KVM of this machine cannot run guests: TCG is used",
  ]);
});

Deno.test("renderLive() gives the golden lines when a boot fails", () => {
  const lines = renderLive(reduce(boot()), { width: 60, nowMs: START_MS + 99_000, color: false });
  assertEquals(lines, [
    "✓ pki                                                  0.2 s",
    "✓ start vm                                             5.8 s",
    "✗ guest up                                             2.0 s",
    "  the guest stopped",
  ]);
});

Deno.test("renderLive() shows the guest's last mark beside the step that runs", () => {
  const records = boot().slice(0, -3);
  const [, , line] = renderLive(reduce(records), {
    width: 60,
    nowMs: START_MS + 7_000,
    color: false,
  });
  assertEquals(line, "⠋ guest up  guest: init                                1.0 s");
});

Deno.test("renderLive() is never wider than the terminal or 80 columns", () => {
  const long = record((log) => {
    const step = log.span("up").child("a very long step name ".repeat(9));
    step.child("inner ".repeat(30)).progress(1, 2, "things ".repeat(30));
    step.log("message ".repeat(30));
    step.warn("warning ".repeat(30));
  });
  for (const width of [20, 33, 80, 200]) {
    for (const records of [build(), boot(), long]) {
      for (
        const line of renderLive(reduce(records), { width, nowMs: START_MS + 5e6, color: false })
      ) {
        assert([...line].length <= Math.min(80, width), `${width}: ${line}`);
      }
    }
  }
});

Deno.test("renderLive() folds the oldest lines when the terminal is low", () => {
  const lines = renderLive(reduce(build()), {
    width: 80,
    nowMs: START_MS,
    color: false,
    height: 3,
  });
  assertEquals(lines.length, 3);
  assertEquals(lines[0], "… 4 lines above");
});

Deno.test("renderLive() uses colour only when it is told to", () => {
  const state = reduce(build());
  const options = { width: 80, nowMs: START_MS + 1000 };
  const plain = renderLive(state, { ...options, color: false });
  const colored = renderLive(state, { ...options, color: true });
  assert(!plain.join("").includes("\x1b"));
  assert(colored.join("").includes("\x1b[32m"));
  // deno-lint-ignore no-control-regex -- the codes are what is taken away
  assertEquals(colored.map((line) => line.replace(/\x1b\[\d+m/g, "")), plain);
});

Deno.test("reduceProgress() changes no earlier state and ignores records of unknown spans", () => {
  const [first, second] = build();
  const before = reduceProgress(EMPTY_PROGRESS, first!);
  const after = reduceProgress(before, second!);
  assertEquals([EMPTY_PROGRESS.steps.size, before.steps.size, after.steps.size], [0, 1, 2]);
  const stray: EventRecord = { t: 1, kind: "end", id: 99, parent: null, name: "x" };
  assertEquals(reduceProgress(after, stray).steps, after.steps);
});

Deno.test("plainLines() shows the bytes of a step every ten seconds", () => {
  const records = record((log, at) => {
    const pull = log.span("up").child("artifacts").child("image app").child("pull");
    for (const seconds of [1, 9, 10, 11, 19, 20]) {
      at(seconds);
      pull.progress(seconds * 1024 * 1024, 80 * 1024 * 1024, "bytes");
    }
  });
  let state = EMPTY_PROGRESS;
  const shown = records.flatMap((one) => {
    state = reduceProgress(state, one);
    return one.kind === "progress" ? plainLines(state, one, false) : [];
  });
  assertEquals(shown, [
    "[  10.0 s] pull: 10.0 MiB of 80.0 MiB",
    "[  20.0 s] pull: 20.0 MiB of 80.0 MiB",
  ]);
});

Deno.test("plainLines() gives the golden lines when there is no terminal", () => {
  let state = EMPTY_PROGRESS;
  const lines: string[] = [];
  for (const r of [...build(), ...boot()].filter((r) => r.id > 0)) {
    if (r.id === 1 && r.kind === "start") state = EMPTY_PROGRESS;
    state = reduceProgress(state, r);
    lines.push(...plainLines(state, r, false));
  }
  assertEquals(lines, [
    "[   0.0 s] check host",
    "[   0.0 s] artifacts",
    "[   0.0 s] Linux 6.12 kernel",
    "[   0.0 s] root image",
    "[   0.0 s] cluster binary",
    "[   0.0 s] image pause",
    "[   0.0 s] mmdebstrap: Setting up libc6 (2.41-12) and quite a lot of other packages",
    "[   0.0 s] warning: the software KVM of this machine cannot run guests: TCG is used",
    "[   0.0 s] pki",
    "[   0.2 s] start vm",
    "[   6.0 s] start vm: done in 5.8 s",
    "[   6.0 s] guest up",
    "[   6.0 s] guest: init (up 1.20 s)",
    "[   8.0 s] guest: network (up 3.25 s)",
    "[   8.0 s] guest up: failed: the guest stopped",
  ]);
});
