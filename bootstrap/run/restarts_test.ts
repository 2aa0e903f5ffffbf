import { assertEquals, assertThrows } from "@std/assert";
import { GatewayError } from "../../vm/base/error.ts";
import { RestartLimit } from "./restarts.ts";

Deno.test("RestartLimit.next() waits longer each time and ends after five within an hour", () => {
  let now = 0;
  const limit = new RestartLimit("dev", () => now);
  const pauses: number[] = [];
  for (let at = 0; at < 5; at++) {
    pauses.push(limit.next());
    now += 60_000;
  }
  assertEquals(pauses, [0, 5000, 10_000, 20_000, 40_000]);
  const error = assertThrows(() => limit.next(), GatewayError);
  assertEquals([error.code, error.why], [
    "network-failed",
    "it stopped answering 6 times within 60 minutes",
  ]);
});

Deno.test("RestartLimit.next() forgets restarts that are more than an hour ago", () => {
  let now = 0;
  const limit = new RestartLimit("dev", () => now);
  for (let at = 0; at < 100; at++) {
    assertEquals(limit.next(), 0);
    now += 60 * 60 * 1000;
  }
});
