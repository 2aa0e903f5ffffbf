import { assert, assertEquals } from "@std/assert";
import { EventLog } from "../../vm/base/event.ts";
import { pause } from "../../vm/base/wait.ts";
import { attachProgress } from "./progress_view.ts";

const START_MS = 1_700_000_000_000;

Deno.test("attachProgress() adds plain lines when there is no terminal", () => {
  const log = new EventLog(() => START_MS);
  const lines: string[] = [];
  {
    using _view = attachProgress(log, { err: (text) => void lines.push(text) });
    log.span("up").child("pki").warn("careful");
  }
  log.span("later").child("not shown");
  assertEquals(lines, ["[   0.0 s] pki", "[   0.0 s] warning: careful"]);
});

Deno.test("attachProgress() tells warnings and long builds only when it is quiet", () => {
  let nowMs = START_MS;
  const log = new EventLog(() => nowMs);
  const lines: string[] = [];
  using _view = attachProgress(log, { err: (text) => void lines.push(text), quiet: true });
  const up = log.span("up");
  const artifacts = up.child("artifacts");
  const [kernel, quick] = [artifacts.child("kernel"), artifacts.child("pause")];
  quick.end();
  nowMs += 90_000;
  kernel.end();
  artifacts.end();
  up.child("start vm").log("x");
  up.warn("careful");
  assertEquals(lines, ["[    1:30] kernel: done in 1:30", "[    1:30] warning: careful"]);
});

Deno.test("attachProgress() redraws in place and leaves the last state when it has a terminal", async () => {
  const log = new EventLog(() => START_MS);
  const drawings: string[] = [];
  const view = attachProgress(log, {
    err: (text) => void drawings.push(text),
    terminal: { columns: () => 41, color: false },
    now: () => START_MS + 1000,
  });
  const up = log.span("up");
  const step = up.child("pki");
  await pause(150);
  step.end();
  up.child("start vm");
  view[Symbol.dispose]();
  view[Symbol.dispose]();
  const count = drawings.length;
  await pause(150);
  assertEquals(drawings.length, count);
  assert(drawings[0]!.startsWith("⠋ pki"));
  assertEquals(
    drawings.at(-1),
    "\x1b[1A\r✓ pki                              0.0 s\x1b[K\n⠋ start vm                         1.0 s\x1b[K\x1b[J",
  );
});

Deno.test("attachProgress() shows records of another process too", () => {
  const lines: string[] = [];
  using view = attachProgress(new EventLog(), { err: (text) => void lines.push(text) });
  view.show({ t: START_MS, kind: "start", id: 1, parent: null, name: "up" });
  view.show({ t: START_MS, kind: "start", id: 2, parent: 1, name: "pki" });
  assertEquals(lines, ["[   0.0 s] pki"]);
});
