import { assert, assertEquals } from "@std/assert";
import { API_PROBES, SERVICE_PROBES } from "./readiness.ts";

Deno.test("SERVICE_PROBES goes from TCP over TLS to the health service", () => {
  const names = (protocol: keyof typeof SERVICE_PROBES) =>
    SERVICE_PROBES[protocol].map((probe) => probe.name);
  assertEquals(names("grpcs"), ["tcp", "tls", "grpc health"]);
  assertEquals(names("https"), ["tcp", "tls", "http"]);
  assertEquals(names("http"), ["tcp", "http"]);
  assertEquals(names("tcp"), ["tcp"]);
  assertEquals(API_PROBES.map((probe) => probe.name), ["tcp", "api readyz"]);
});

Deno.test("every probe says what it waits for and what to do", () => {
  for (const probe of [...Object.values(SERVICE_PROBES).flat(), ...API_PROBES]) {
    assert(!/^[A-Z]|\.$/.test(probe.description), probe.description);
    assert(probe.hint.includes("`gateway "), probe.hint);
  }
});
