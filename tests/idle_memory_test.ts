/**
 * When a VMM is asked to give memory back. In a room of its own, since Deno lets nobody but the whole program at /proc.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { trimWhenIdle } from "../bootstrap/run/idle_memory.ts";
import { silentSpan } from "../vm/base/event.ts";

Deno.test("trimWhenIdle() asks a VMM that is idle, and no more one that cannot", async () => {
  const asked: number[] = [];
  const vm = {
    // Asleep in this test's own process: as idle as a VMM can be.
    pid: Deno.pid,
    trim: (mib: number) => {
      asked.push(mib);
      return Promise.resolve(asked.length < 2 ? 0 : undefined);
    },
  };
  await trimWhenIdle(vm, silentSpan(), new AbortController().signal, {
    lookMs: 200,
    cores: 0.6,
  });
  assertEquals(asked, [128, 128]);
  await trimWhenIdle({ pid: Deno.pid }, silentSpan(), new AbortController().signal);
});

Deno.test("trimWhenIdle() leaves a VMM alone that works, and ends with the signal", async () => {
  const over = new AbortController();
  // Keeps this process busy between the looks.
  const busy = setInterval(() => {
    const until = performance.now() + 18;
    while (performance.now() < until);
  }, 20);
  setTimeout(() => over.abort(), 1500);
  const vm = { pid: Deno.pid, trim: () => Promise.reject(new Error("it was asked")) };
  const warned: string[] = [];
  const span = Object.assign(silentSpan(), { warn: (text: string) => warned.push(text) });
  try {
    // Where others want the processor, too, a busy process does not get much of it.
    await trimWhenIdle(vm, span, over.signal, { lookMs: 400, cores: 0.1 });
  } finally {
    clearInterval(busy);
  }
  assertEquals(warned, []);
});
