import { assertEquals, assertThrows } from "@std/assert";
import * as v from "valibot";
import { GatewayError } from "../vm/base/error.ts";
import { allowedNetText, NEVER_REACHED, parseAllowedNet, Refusal, refusalText } from "./egress.ts";

Deno.test("parseAllowedNet() reads a network, one port of it, and a single address", () => {
  const cases: [string, string, number | null][] = [
    ["10.0.0.0/8", "10.0.0.0/8", null],
    ["192.168.1.0/24:5432", "192.168.1.0/24", 5432],
    ["10.1.2.3", "10.1.2.3/32", null],
    ["10.1.2.3:443", "10.1.2.3/32", 443],
    ["0.0.0.0/0", "0.0.0.0/0", null],
    ["128.0.0.0/1:65535", "128.0.0.0/1", 65535],
    ["100.64.0.0/10", "100.64.0.0/10", null],
  ];
  for (const [text, net, port] of cases) {
    assertEquals(parseAllowedNet(text), { net, port });
    assertEquals(parseAllowedNet(allowedNetText({ net, port })), { net, port });
  }
});

Deno.test("parseAllowedNet() refuses what is not a network, and what nothing opens", () => {
  const shape = "it is not an IPv4 network CIDR[:PORT]";
  const cases: [string, string][] = [
    ["", shape],
    ["lan", shape],
    ["fd00::/8", shape],
    ["10.0.0.0/8:", shape],
    ["10.0.0/8", shape],
    ["10.0.0.0/33", "10.0.0.0/33 is not an IPv4 network"],
    ["10.0.0.256/32", "10.0.0.256/32 is not an IPv4 network"],
    ["10.0.0.01", "10.0.0.01/32 is not an IPv4 network"],
    ["10.1.2.3/8", "10.1.2.3 is not the first address of a network of that size"],
    ["10.0.0.0/8:0", "0 is not a port: those go from 1 to 65535"],
    ["10.0.0.0/8:65536", "65536 is not a port: those go from 1 to 65535"],
    ["127.0.0.1:8080", "127.0.0.0/8 is always closed to guests"],
    ["169.254.169.254", "169.254.0.0/16 is always closed to guests"],
    ["100.100.100.200", "100.100.100.200/32 is always closed to guests"],
    ["192.168.127.0/25", "192.168.127.0/24 is always closed to guests"],
    ["255.255.255.255", "240.0.0.0/4 is always closed to guests"],
  ];
  for (const [text, why] of cases) {
    const error = assertThrows(() => parseAllowedNet(text), GatewayError);
    assertEquals([error.code, error.what, error.why], [
      "usage",
      `Cannot allow the network "${text}"`,
      why,
    ]);
  }
  const fix = assertThrows(() => parseAllowedNet("10.1.2.3/8"), GatewayError).fix;
  assertEquals(fix, "write 10.0.0.0/8");
});

Deno.test("NEVER_REACHED is gvproxy's list of IPv4", async () => {
  const source = await Deno.readTextFile(
    new URL("gvproxy/internal/egress/egress.go", import.meta.url),
  );
  const list = source.split("var neverReached = prefixes(")[1]!.split("\n)")[0]!;
  const found = [...list.matchAll(/"([\d.]+\/\d+)"/g)].map(([, prefix]) => prefix!);
  assertEquals(found.toSorted(), NEVER_REACHED.toSorted());
});

Deno.test("refusalText() says what was refused, why, and which option opens it", () => {
  const cases: [Refusal, string][] = [
    [
      { kind: "tcp", target: "10.1.2.3:443", reason: "private" },
      "the guest was refused a connection to 10.1.2.3:443: it is not a public address; `gateway up --allow-net 10.1.2.3/32:443` opens it",
    ],
    [
      { kind: "udp", target: "93.184.216.34:53", reason: "host" },
      "the guest was refused a datagram to 93.184.216.34:53: it is an address of this host; `gateway up --allow-net 93.184.216.34/32:53` opens it",
    ],
    [
      { kind: "icmp", target: "1.1.1.1", reason: "none" },
      "the guest was refused a ping of 1.1.1.1: nothing is open with --egress none; `gateway up --allow-net 1.1.1.1/32` opens it",
    ],
    [
      { kind: "dns", target: "data.example", reason: "none" },
      'the guest was refused a look-up of "data.example": nothing is open with --egress none; `gateway up --egress internet` opens it',
    ],
    [
      { kind: "tcp", target: "169.254.169.254:80", reason: "never" },
      "the guest was refused a connection to 169.254.169.254:80: no option opens that address",
    ],
  ];
  for (const [refusal, text] of cases) assertEquals(refusalText(refusal), text);
});

Deno.test("Refusal refuses what gvproxy does not say", () => {
  for (
    const value of [{}, { kind: "x", target: "", reason: "never" }, {
      kind: "dns",
      target: "x".repeat(2000),
      reason: "none",
    }]
  ) {
    assertEquals(v.safeParse(Refusal, value).success, false);
  }
});
