import { assert, assertEquals } from "@std/assert";
import { silentSpan } from "../../vm/base/event.ts";
import { clockRequest, ClockWatch, JUMP_MS, keepClock, RESYNC_MS, STALL_MS } from "./clock.ts";

/** Two clocks that stand where they are put. */
function clocks() {
  const at = { wall: 1_000_000, steady: 5000 };
  return {
    at,
    run: (ms: number) => {
      at.wall += ms;
      at.steady += ms;
    },
    wallMs: () => at.wall,
    steadyMs: () => at.steady,
  };
}

Deno.test("ClockWatch is quiet while both clocks go on together", () => {
  const host = clocks();
  const watch = new ClockWatch(host);
  host.run(1000);
  assertEquals(watch.look(), undefined);
});

Deno.test("ClockWatch tells a sleep and a clock that was set back, each once", () => {
  const host = clocks();
  const watch = new ClockWatch(host);
  host.at.wall += 3_600_000;
  assertEquals(watch.look(), { jumpMs: 3_600_000 });
  assertEquals(watch.look(), undefined);
  host.at.wall -= JUMP_MS;
  assertEquals(watch.look(), { jumpMs: -JUMP_MS });
});

Deno.test("ClockWatch adds small steps up until they matter", () => {
  const host = clocks();
  const watch = new ClockWatch(host);
  host.at.wall += JUMP_MS - 1;
  assertEquals(watch.look(), undefined);
  host.at.wall += 1;
  assertEquals(watch.look(), { jumpMs: JUMP_MS });
});

Deno.test("ClockWatch puts a drifting guest right now and then", () => {
  const host = clocks();
  const watch = new ClockWatch(host);
  host.run(RESYNC_MS);
  assertEquals(watch.look(), { jumpMs: 0 });
});

/** A guest that answers pings after what `onPing` does, and ends the test with the first clock it is sent. */
function guest(onPing: (round: number) => void | Promise<void>) {
  const sent: string[] = [];
  const stop = new AbortController();
  let round = 0;
  const control = {
    request: async (command: string) => {
      if (command === "ping") await onPing(++round);
      else {
        sent.push(command);
        stop.abort();
      }
      return "";
    },
  };
  return { control, sent, signal: stop.signal };
}

Deno.test("keepClock() sends the host's wall clock within two seconds of a jump", async () => {
  const host = clocks();
  const span = silentSpan();
  const { control, sent, signal } = guest(() => {});
  const started = performance.now();
  let wakes = 0;
  const keeping = keepClock(control, span, signal, { clocks: host, onWake: () => wakes++ });
  host.at.wall += 3_600_000;
  await keeping;
  assert(performance.now() - started < 2000);
  assertEquals([sent, wakes], [[clockRequest(4_600_000)], 1]);
  assertEquals(span.events.at(-1)?.message, "the clock moved by 3600 s; the guest follows");
});

Deno.test("keepClock() sets the clock of a guest that stood still while the host went on", async () => {
  const host = clocks();
  const span = silentSpan();
  const { control, sent, signal } = guest(() => host.run(STALL_MS));
  let wakes = 0;
  await keepClock(control, span, signal, { clocks: host, onWake: () => wakes++ });
  assertEquals([sent, wakes], [[clockRequest(1_000_000 + STALL_MS)], 1]);
  assertEquals(
    span.events.at(-1)?.message,
    "the guest stood still for a while; its clock is right again",
  );
});

Deno.test("keepClock() waits for a guest that does not answer, and then sets its clock", async () => {
  const host = clocks();
  const { control, sent, signal } = guest((round) => {
    if (round === 1) throw new Error("no answer");
  });
  await keepClock(control, silentSpan(), signal, { clocks: host });
  assertEquals(sent, [clockRequest(1_000_000)]);
});

Deno.test("keepClock() bounds the records of a guest that stands still again and again", async () => {
  const host = clocks();
  const span = silentSpan();
  const stop = new AbortController();
  let sets = 0;
  const control = {
    request: (command: string) => {
      if (command === "ping") host.run(STALL_MS);
      else if (++sets === 600) stop.abort();
      return Promise.resolve("");
    },
  };
  await keepClock(control, span, stop.signal, { clocks: host, lookMs: 0 });
  const records = span.events.filter(({ kind }) => kind !== "start");
  assertEquals([sets, records.length, records.at(-1)!.message], [
    600,
    501,
    "too many corrections of the guest's clock in this run: the rest is not recorded",
  ]);
});

Deno.test("clockRequest() has nanosecond places and no exponent", () => {
  assertEquals(clockRequest(1_795_480_899_843.5), "clock 1795480899.843500000");
});
