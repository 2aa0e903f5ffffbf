import { assert, assertEquals } from "@std/assert";
import { EventLog, type EventRecord } from "../../vm/base/event.ts";
import { buildTimeline, lastRun, renderTimeline } from "./timeline.ts";

const START_MS = 1_700_000_000_000;

function boot(lateByMs = 0): EventRecord[] {
  let nowMs = START_MS;
  const at = (ms: number) => nowMs = START_MS + ms;
  const log = new EventLog(() => nowMs);
  const records: EventRecord[] = [];
  log.addSink((record) => void records.push(record));
  const up = log.span("up");
  const pki = up.child("pki");
  const keys = pki.child("keys");
  at(100);
  keys.end();
  pki.end();
  const vm = up.child("start vm");
  at(300);
  vm.end();
  const guest = up.child("guest up");
  // Uptime 0 is at 500 ms; the port hands both marks over late.
  at(1700 + lateByMs);
  up.mark("init", 1.2);
  at(2000 + lateByMs);
  up.mark("network", 1.5);
  guest.end(new Error("no network"));
  at(3000);
  up.child("service ready");
  return records;
}

Deno.test("buildTimeline() puts spans and marks on one line of time", () => {
  const { startMs, lengthMs, rows } = buildTimeline(boot());
  assertEquals([startMs, lengthMs], [START_MS, 3000]);
  assertEquals(
    rows.map(({ name, depth, atMs, tookMs, outcome }) => [name, depth, atMs, tookMs, outcome]),
    [
      ["up", 0, 0, null, "running"],
      ["pki", 1, 0, 100, "ok"],
      ["keys", 2, 0, 100, "ok"],
      ["start vm", 1, 100, 200, "ok"],
      ["guest up", 1, 300, 1700, "failed"],
      ["init", 1, 1700, null, "mark"],
      ["network", 1, 2000, null, "mark"],
      ["service ready", 1, 3000, null, "running"],
    ],
  );
  assertEquals(rows[4]?.error, "no network");
  assertEquals(rows[5]?.uptimeSeconds, 1.2);
});

Deno.test("buildTimeline() keeps the guest's distances when marks are read late", () => {
  const mark = (uptime: number, t: number): EventRecord => ({
    t: START_MS + t,
    kind: "mark",
    id: 1,
    parent: null,
    name: `at ${uptime}`,
    attrs: { uptime },
  });
  const start: EventRecord = { t: START_MS, kind: "start", id: 1, parent: null, name: "up" };
  // The first was read 900 ms late; the second, on time, says so.
  const { rows } = buildTimeline([start, mark(1, 2400), mark(2, 2500)]);
  assertEquals(rows.map((row) => row.atMs), [0, 1500, 2500]);
});

Deno.test("buildTimeline() anchors anew when the guest's clock starts over", () => {
  const mark = (uptime: number, t: number): EventRecord => ({
    t: START_MS + t,
    kind: "mark",
    id: 1,
    parent: null,
    name: "init",
    attrs: { uptime },
  });
  const start: EventRecord = { t: START_MS, kind: "start", id: 1, parent: null, name: "up" };
  const { rows } = buildTimeline([start, mark(50, 50_000), mark(1, 91_000), mark(3, 93_000)]);
  assertEquals(rows.map((row) => row.atMs), [0, 50_000, 91_000, 93_000]);
});

Deno.test("buildTimeline() leaves out marks without a usable uptime and takes no records at all", () => {
  const start: EventRecord = { t: START_MS, kind: "start", id: 1, parent: null, name: "up" };
  const bad = (uptime: string | number): EventRecord => ({
    t: START_MS,
    kind: "mark",
    id: 1,
    parent: null,
    name: "x",
    attrs: { uptime },
  });
  assertEquals(buildTimeline([start, bad("soon"), bad(-1), bad(NaN)]).rows.length, 1);
  assertEquals(buildTimeline([]), { startMs: 0, lengthMs: 0, rows: [] });
});

Deno.test("buildTimeline() gives plain JSON", () => {
  const timeline = buildTimeline(boot());
  assertEquals(JSON.parse(JSON.stringify(timeline)), timeline);
});

Deno.test("lastRun() gives the records from the last first span on", () => {
  assertEquals(lastRun([...boot(), ...boot()]), boot());
  assertEquals(lastRun([]), []);
});

Deno.test("renderTimeline() gives the golden table at 80 columns", () => {
  assertEquals(renderTimeline(buildTimeline(boot()), { width: 100, color: false }), [
    "     at s   took s  step",
    "     0.00     runs  up                                |~~~~~~~~~~~~~~~~~~~~~~~~|",
    "     0.00     0.10    pki                             |=                       |",
    "     0.00     0.10      keys                          |=                       |",
    "     0.10     0.20    start vm                        |===                     |",
    "     0.30     1.70    guest up (failed)               |  ===============       |",
    "     1.70             guest: init                     |             +          |",
    "     2.00             guest: network                  |                +       |",
    "     3.00     runs    service ready                   |                       ~|",
  ]);
});

Deno.test("renderTimeline() leaves the bars out when the terminal is narrow", () => {
  const lines = renderTimeline(buildTimeline(boot()), { width: 50, color: false });
  assert(lines.every((line) => [...line].length <= 50 && !line.includes("|")));
  const colored = renderTimeline(buildTimeline(boot()), { width: 50, color: true });
  // deno-lint-ignore no-control-regex -- the codes are what is taken away
  assertEquals(colored.map((line) => line.replace(/\x1b\[\d+m/g, "")), lines);
});
