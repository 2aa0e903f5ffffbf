import { assertEquals, assertThrows } from "@std/assert";
import { GatewayError } from "../vm/base/error.ts";
import {
  distinctHostServices,
  hostServiceText,
  parseHostService,
  silentHostServices,
} from "./host_service.ts";

Deno.test("parseHostService() reads one port or two, also those below 1024", () => {
  const cases: [string, number, number][] = [
    ["11434", 11434, 11434],
    ["11434:80", 11434, 80],
    ["80:8080", 80, 8080],
    ["1", 1, 1],
    ["65535:65535", 65535, 65535],
  ];
  for (const [text, hostPort, guestPort] of cases) {
    assertEquals(parseHostService(text), { hostPort, guestPort });
  }
});

Deno.test("parseHostService() refuses what is not a port, with the user's words and a fix", () => {
  const shape = "it is not HOSTPORT[:GUESTPORT] with port numbers";
  const cases: [string, string][] = [
    ["", shape],
    ["ollama", shape],
    ["11434:", shape],
    [":80", shape],
    ["-1", shape],
    ["1e3", shape],
    [" 80", shape],
    ["127.0.0.1:11434", shape],
    ["1:2:3", shape],
    ["0", "0 is not a port: those go from 1 to 65535"],
    ["65536", "65536 is not a port: those go from 1 to 65535"],
    ["80:0", "0 is not a port: those go from 1 to 65535"],
    ["80:99999999999999999999", "99999999999999999999 is not a port: those go from 1 to 65535"],
  ];
  for (const [text, why] of cases) {
    const error = assertThrows(() => parseHostService(text), GatewayError);
    assertEquals([error.code, error.what, error.why], [
      "usage",
      `Cannot open the host service "${text}"`,
      why,
    ]);
  }
});

Deno.test("hostServiceText() is what parseHostService() reads", () => {
  for (const text of ["11434", "11434:80"]) {
    assertEquals(hostServiceText(parseHostService(text)), text);
  }
});

Deno.test("distinctHostServices() takes a service once and refuses two on one port of the guest", () => {
  const services = ["11434:80", "8000", "11434:80", "11434"].map(parseHostService);
  assertEquals(distinctHostServices(services).map(hostServiceText), ["11434:80", "8000", "11434"]);
  const error = assertThrows(
    () => distinctHostServices(["11434:80", "80"].map(parseHostService)),
    GatewayError,
  );
  assertEquals([error.code, error.what, error.why], [
    "usage",
    'Cannot open the host services "11434:80" and "80"',
    "both are port 80 in the guest",
  ]);
});

Deno.test("silentHostServices() leaves out those that somebody serves, on ::1 too", async () => {
  using four = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  using gone = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const portOf = (listener: Deno.Listener) => (listener.addr as Deno.NetAddr).port;
  const services = [portOf(four), portOf(gone)].map((port) => ({
    hostPort: port,
    guestPort: port,
  }));
  gone.close();
  assertEquals(await silentHostServices(services), [services[1]]);
  let six: Deno.Listener;
  try {
    six = Deno.listen({ hostname: "::1", port: 0 });
  } catch {
    return; // This host has no ::1.
  }
  using _held = six;
  assertEquals(await silentHostServices([{ hostPort: portOf(six), guestPort: 80 }]), []);
});
