import { assertEquals } from "@std/assert";
import { silentSpan } from "../../vm/base/event.ts";
import { NetworkHealth } from "./network_health.ts";

/** A network that answers as scripted; the last word stays. */
function health(script: boolean[], controller = new AbortController()) {
  let asked = 0;
  let hangs = 0;
  const gvproxy = {
    stats: () => {
      const ok = script[Math.min(asked++, script.length - 1)];
      return ok ? Promise.resolve({}) : Promise.reject(new Error("silent"));
    },
  };
  const one = new NetworkHealth(gvproxy, silentSpan(), controller.signal, () => hangs++);
  return { one, counts: () => [asked, hangs] };
}

Deno.test("NetworkHealth.look() says nothing of a network that answers, at once or at the second try", async () => {
  const good = health([true]);
  await good.one.look();
  assertEquals(good.counts(), [1, 0]);
  const slow = health([false, true]);
  await slow.one.look();
  assertEquals(slow.counts(), [2, 0]);
});

Deno.test("NetworkHealth.look() tells a hang once", async () => {
  const { one, counts } = health([false]);
  await one.look();
  await one.look();
  assertEquals(counts(), [2, 1]);
});

Deno.test("NetworkHealth.watch() ends with its signal and tells nothing then", async () => {
  const controller = new AbortController();
  controller.abort();
  const { one, counts } = health([false], controller);
  await one.watch();
  assertEquals(counts(), [0, 0]);
});
