import { assertEquals, assertThrows } from "@std/assert";
import { instanceConfig } from "../../tests/fakes/instance_config.ts";
import { GatewayError } from "../../vm/base/error.ts";
import { cloneConfig } from "./fork.ts";

const source = instanceConfig({
  cpus: 3,
  memoryMiB: 5000,
  stateMiB: 20_000,
  ports: [{ address: "127.0.0.1", hostPort: 30_051, guestPort: 30_051 }],
  vmm: "qemu",
  kubeApi: false,
  hostServices: [{ hostPort: 11_434, guestPort: 11_434 }],
});
const ports = [{ address: "127.0.0.1", hostPort: 30_052, guestPort: 30_051 }];

Deno.test("cloneConfig() takes the source's settings, and none of its host services", () => {
  const { createdAt: _, ...clone } = cloneConfig(source, "try", ports);
  const { createdAt: __, ...before } = source;
  assertEquals(clone, { ...before, name: "try", ports, hostServices: [] });
});

Deno.test("cloneConfig() opens the host services named for the clone, and refuses two on one guest port", () => {
  const [one, two] = [{ hostPort: 8000, guestPort: 80 }, { hostPort: 80, guestPort: 80 }];
  assertEquals(cloneConfig(source, "try", ports, [one]).hostServices, [one]);
  const error = assertThrows(() => cloneConfig(source, "try", ports, [one, two]), GatewayError);
  assertEquals(error.code, "usage");
});
