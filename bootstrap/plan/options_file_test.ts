import { assertEquals, assertThrows } from "@std/assert";
import { GatewayError } from "../../vm/base/error.ts";
import { resolveOptions } from "./options.ts";
import { parseUpOptions } from "./options_file.ts";

const host = { cpus: 8, memoryMiB: 32_768 };

Deno.test("parseUpOptions() reads back every option of a start", () => {
  const request = {
    name: "dev",
    assumeYes: true,
    ports: [{ address: "127.0.0.1", hostPort: 1234, guestPort: 30051 }],
    hostServices: [{ hostPort: 11434, guestPort: 11434 }],
    egress: "none",
    allowNets: [],
    vmm: "libkrun",
    libkrun: "/lib/libkrun.so",
    payload: "/srv/hello",
    clusterBinary: "/srv/k3s",
    hostProxy: true,
    keep: true,
    kubeApi: false,
    cold: true,
  };
  for (const one of [request, { name: "small", assumeYes: false }]) {
    const options = { ...resolveOptions(one, host), payloadWhy: "there is no network" };
    assertEquals(parseUpOptions(JSON.stringify(options), "/plan.json"), options);
  }
});

Deno.test("parseUpOptions() names the first field that is wrong", () => {
  const options = { ...resolveOptions({ name: "dev", assumeYes: false }, host), cold: "yes" };
  const error = assertThrows(
    () => parseUpOptions(JSON.stringify(options), "/plan.json"),
    GatewayError,
  );
  assertEquals([error.code, error.what], ["instance-schema", 'Cannot read "/plan.json"']);
  assertEquals(error.why.startsWith("cold: "), true, error.why);
});
