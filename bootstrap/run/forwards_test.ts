import { assertEquals, assertThrows } from "@std/assert";
import { parseForward } from "../../net/forward.ts";
import { GatewayError } from "../../vm/base/error.ts";
import { checkRemoval, forwardReports } from "./forwards.ts";

const OWN = { sshPort: 32_118, apiPort: 16_443 };
const forward = (local: string, port: number) => ({
  protocol: "tcp" as const,
  local,
  remote: `192.168.127.2:${port}`,
});
const OPEN = [
  forward("127.0.0.1:32118", 22),
  forward("127.0.0.1:16443", 6443),
  forward("127.0.0.1:8080", 80),
  forward("[::1]:8080", 80),
];

for (
  const [spec, why] of [
    ["8080:80", undefined],
    ["[0:0::1]:8080:80", undefined],
    ["8080:81", "the forward from 127.0.0.1:8080 leads to 192.168.127.2:80"],
    ["32118:9999", "the forward from 127.0.0.1:32118 leads to 192.168.127.2:22"],
    ["32118:22", "`gateway exec`, `shell` and `cp` use it"],
    ["16443:6443", "the instance's kubeconfig uses it"],
    ["9090:80", "no forward starts at 127.0.0.1:9090"],
  ] as const
) {
  Deno.test(`checkRemoval() of ${spec}: ${why ?? "it is removed"}`, () => {
    const check = () => checkRemoval(spec, parseForward(spec), OPEN, OWN);
    if (why === undefined) check();
    else assertEquals(assertThrows(check, GatewayError).why, why);
  });
}

Deno.test("forwardReports() leaves out the forwards that gateway itself uses", () => {
  assertEquals(forwardReports(OPEN, OWN), [
    { host: "127.0.0.1:8080", guestPort: 80 },
    { host: "[::1]:8080", guestPort: 80 },
  ]);
});
