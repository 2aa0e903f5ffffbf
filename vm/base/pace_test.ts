import { assertEquals, assertRejects } from "@std/assert";
import { Pace, paced } from "./pace.ts";

/** A clock that only moves while it is waited for. */
function waitingClock() {
  let nowMs = 5000;
  let waits = 0;
  return {
    nowMs: () => nowMs,
    wait: (ms: number) => {
      nowMs += ms;
      waits++;
      return Promise.resolve();
    },
    pass: (ms: number) => void (nowMs += ms),
    waits: () => waits,
  };
}

async function* chunks(count: number, size: number) {
  for (let at = 0; at < count; at++) yield new Uint8Array(size);
}

const quiet = new AbortController().signal;

Deno.test("paced() takes a flood no faster than its rate", async () => {
  const clock = waitingClock();
  const seen = await Array.fromAsync(paced(chunks(10, 1000), new Pace(1000, clock), quiet));
  assertEquals(seen.length, 10);
  assertEquals(clock.nowMs(), 5000 + 10_000);
});

Deno.test("paced() does not wait for a burst, and saves nothing up in a silence", async () => {
  const clock = waitingClock();
  const pace = new Pace(1000, clock);
  await Array.fromAsync(paced(chunks(10, 10), pace, quiet));
  assertEquals(clock.waits(), 0);
  clock.pass(60_000);
  await Array.fromAsync(paced(chunks(1, 2000), pace, quiet));
  assertEquals(clock.nowMs(), 5000 + 60_000 + 2000);
});

Deno.test("paced() ends with its signal while it waits", async () => {
  const ended = new AbortController();
  const stream = paced(chunks(10, 1000), new Pace(0.001), ended.signal);
  await stream.next();
  const next = stream.next();
  ended.abort(new Error("over"));
  await assertRejects(() => next, Error);
});
