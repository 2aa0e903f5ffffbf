/**
 * Port forwards: parsing, and ports of this host that are free or taken.
 *
 * @module
 */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { GatewayError } from "../vm/base/error.ts";
import {
  checkDistinct,
  checkPortsFree,
  describeHolder,
  freeLoopbackPort,
  hostPort,
  listeningInodes,
  parseForward,
  reachableAddress,
} from "./forward.ts";

Deno.test("parseForward() takes ports alone, IPv4 and IPv6 when they are well-formed", () => {
  const cases: Record<string, [string, number, number]> = {
    "30051:30051": ["127.0.0.1", 30051, 30051],
    "1:65535": ["127.0.0.1", 1, 65535],
    "0.0.0.0:8080:80": ["0.0.0.0", 8080, 80],
    "192.168.1.7:8080:80": ["192.168.1.7", 8080, 80],
    "[::1]:8080:80": ["::1", 8080, 80],
    "[::]:8080:80": ["::", 8080, 80],
    "[fe80::1:2]:8080:80": ["fe80::1:2", 8080, 80],
  };
  for (const [text, [address, hostPort, guestPort]] of Object.entries(cases)) {
    assertEquals(parseForward(text), { address, hostPort, guestPort });
  }
});

Deno.test("parseForward() gives a usage error when the text is no forward", () => {
  const bad = [
    "",
    "80",
    "a:b",
    "99999:1",
    "1:99999",
    "0:80",
    "80:0",
    "-1:80",
    "80:80:80",
    "1.2.3:80:80",
    "1.2.3.256:80:80",
    "01.2.3.4:80:80",
    "localhost:80:80",
    "::1:80:80",
    "[::g]:80:80",
    "[1.2.3.4]:80:80",
    "[:::]:80:80",
    "[::1:80:80",
    " 80:80",
    "80:80\n",
    "80:80 ",
    "8e1:80",
    "0x50:80",
    ":80:80",
    "1:2:3:4",
  ];
  for (const text of bad) {
    const error = assertThrows(() => parseForward(text), GatewayError);
    assertEquals([error.code, error.exitCode], ["usage", 2], text);
    assert(error.what.startsWith("Cannot ") && error.what.includes(`"${text}"`), error.what);
  }
  const error = assertThrows(() => parseForward("99999:1"), GatewayError);
  assertEquals(error.why, "99999 is not a port: those go from 1 to 65535");
});

Deno.test("hostPort() puts brackets around an address when it is IPv6", () => {
  assertEquals(hostPort("127.0.0.1", 80), "127.0.0.1:80");
  assertEquals(hostPort("::1", 80), "[::1]:80");
});

Deno.test("checkPortsFree() passes when nobody listens, and leaves the ports free", async () => {
  const forward = { address: "127.0.0.1", hostPort: freeLoopbackPort(), guestPort: 80 };
  await checkPortsFree([forward]);
  await checkPortsFree([forward]);
  Deno.listen({ hostname: "127.0.0.1", port: forward.hostPort }).close();
});

Deno.test("checkPortsFree() fails with port-in-use when somebody listens", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr as Deno.NetAddr;
  const forward = { address: "127.0.0.1", hostPort: port, guestPort: 80 };
  const error = await assertRejects(() => checkPortsFree([forward]), GatewayError);
  assertEquals([error.code, error.exitCode], ["port-in-use", 1]);
  assertEquals(error.what, `Cannot listen on "127.0.0.1:${port}"`);
  assert(error.fix.endsWith(`--port ${port === 65535 ? port - 1 : port + 1}:80`), error.fix);
});

Deno.test("checkDistinct() refuses two forwards from one port", () => {
  const one = { address: "127.0.0.1", hostPort: 1000, guestPort: 80 };
  const twice = assertThrows(() => checkDistinct([one, { ...one, guestPort: 81 }]), GatewayError);
  assertEquals(twice.code, "usage");
});

Deno.test("checkPortsFree() fails when two forwards exclude each other", async () => {
  const one = { address: "127.0.0.1", hostPort: freeLoopbackPort(), guestPort: 80 };
  const overlap = await assertRejects(
    () => checkPortsFree([{ ...one, address: "0.0.0.0" }, one]),
    GatewayError,
  );
  assertEquals(overlap.code, "port-in-use");
});

Deno.test("checkPortsFree() fails with port-forward-failed when the address is not ours", async () => {
  const forward = { address: "203.0.113.7", hostPort: 8080, guestPort: 80 };
  const error = await assertRejects(() => checkPortsFree([forward]), GatewayError);
  assertEquals(error.code, "port-forward-failed");
});

Deno.test("describeHolder() names the process when it is known", () => {
  assertEquals(describeHolder(undefined), "another process holds it");
  assertEquals(describeHolder({ pid: 1, program: "init" }), '"init" (process 1) holds it');
});

Deno.test("listeningInodes() counts listeners that stand in the way and no others", () => {
  const row = (local: string, state: string, inode: number) =>
    ` 0: ${local} 00000000:0000 ${state} 00000000:00000000 00:00000000 00000000 0 0 ${inode} 1 x`;
  const table = [
    "  sl  local_address rem_address   st",
    row("0100007F:1F90", "0A", 1), // 127.0.0.1:8080
    row("00000000:1F90", "0A", 2), // 0.0.0.0:8080
    row("0200007F:1F90", "0A", 3), // 127.0.0.2:8080
    row("0100007F:1F90", "01", 4), // a connection, not a listener
    row("0100007F:1F91", "0A", 5), // another port
    row("0000000000000000FFFF00000100007F:1F90", "0A", 6), // ::ffff:127.0.0.1
    " 0: 0100007F:1F90 00000000:0000 0A", // cut
    "",
  ].join("\n");
  assertEquals(listeningInodes(table, 8080, "127.0.0.1"), ["1", "2", "6"]);
  assertEquals(listeningInodes(table, 8080, "0.0.0.0"), ["1", "2", "3", "6"]);
  assertEquals(listeningInodes(table, 8080, "::1"), ["1", "2", "3", "6"]);
  assertEquals(listeningInodes(table, 8081, "127.0.0.2"), []);
  assertEquals(listeningInodes("", 8080, "127.0.0.1"), []);
});

Deno.test("reachableAddress() is the forward's own, or loopback for one that listens everywhere", () => {
  const reached = ["127.0.0.1", "192.168.7.5", "0.0.0.0", "::1", "::", "0:0::0", "fd00::5"]
    .map(reachableAddress);
  assertEquals(reached, ["127.0.0.1", "192.168.7.5", "127.0.0.1", "::1", "::1", "::1", "fd00::5"]);
});
