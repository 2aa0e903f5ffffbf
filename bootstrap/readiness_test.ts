import { assert, assertEquals } from "@std/assert";
import { API_PROBES, healthRequest, readHealthStatus, SERVICE_PROBES } from "./readiness.ts";

Deno.test("readHealthStatus() names the status of a framed response", () => {
  const status = (...bytes: number[]) => readHealthStatus(new Uint8Array(bytes));
  assertEquals(status(0, 0, 0, 0, 2, 8, 1), "SERVING");
  assertEquals(status(0, 0, 0, 0, 2, 8, 2), "NOT_SERVING");
  assertEquals(status(0, 0, 0, 0, 2, 8, 9), "status 9");
  assertEquals(status(0, 0, 0, 0, 0), "UNKNOWN");
});

Deno.test("readHealthStatus() does not guess when the response is cut, compressed or something else", () => {
  for (
    const bytes of [[], [0, 0, 0], [0, 0, 0, 0, 2, 8], [1, 0, 0, 0, 2, 8, 1], [
      0,
      0,
      0,
      0,
      2,
      18,
      1,
    ]]
  ) {
    assertEquals(readHealthStatus(new Uint8Array(bytes)), "nothing that can be read");
  }
});

Deno.test("healthRequest() asks for the server as a whole, or for one service of it", () => {
  assertEquals([...healthRequest()], [0, 0, 0, 0, 0]);
  assertEquals([...healthRequest("a.B")], [0, 0, 0, 0, 5, 10, 3, 97, 46, 66]);
});

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
