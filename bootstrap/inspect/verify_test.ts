import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { GatewayError } from "../../vm/base/error.ts";
import { capabilityText, countOutcomes, parseCapabilities, readVerification } from "./verify.ts";

const row = (level: string, check: string, outcome: string, found = "seen") => ({
  level,
  check,
  options: ["CONFIG_A", "CONFIG_B"],
  breaks: "no pods",
  outcome,
  found,
  ms: 1,
});

const report = (...results: ReturnType<typeof row>[]) =>
  parseCapabilities(JSON.stringify({ kernel: "6.12.0-gateway", results }), "default");

Deno.test("parseCapabilities() is ok unless a required check failed", () => {
  const good = [row("required", "a.b", "pass"), row("optional", "c.d", "fail")];
  assertEquals(report(...good).ok, true);
  assertEquals(report(row("required", "e.f", "skip")).ok, true);
  assertEquals(report(...good, row("required", "e.f", "fail")).ok, false);
});

for (
  const [what, text] of [
    ["no JSON", "agent verify: no such command"],
    ["a report without checks", '{"kernel":"k","results":[]}'],
    ["a row of another form", '{"kernel":"k","results":[{"check":"a.b","outcome":"maybe"}]}'],
  ] as const
) {
  Deno.test(`parseCapabilities() refuses ${what}`, () => {
    const error = assertThrows(() => parseCapabilities(text, "dev"), GatewayError);
    assertEquals([error.code, error.what], [
      "guest-failed",
      'Cannot verify the instance "dev"',
    ]);
    assertStringIncludes(error.fix, "gateway down --name dev");
  });
}

Deno.test("capabilityText() shows check, outcome, options and what breaks, and why a row did not pass", () => {
  const text = capabilityText(report(
    row("required", "bridge.packet", "fail", "a bridge: not supported"),
    row("optional", "tun.packet", "fail", "no device"),
    row("required", "fs.ext4", "skip", "no state disk"),
    row("required", "boot.unix", "pass"),
  ));
  assertEquals(text.split("\n"), [
    "CHECK          OUTCOME  NEEDS              WITHOUT IT",
    "bridge.packet  fail     CONFIG_A CONFIG_B  no pods",
    "    found: a bridge: not supported",
    "tun.packet     absent   CONFIG_A CONFIG_B  no pods (optional)",
    "    found: no device",
    "fs.ext4        skip     CONFIG_A CONFIG_B  no pods",
    "    found: no state disk",
    "boot.unix      pass     CONFIG_A CONFIG_B  no pods",
    "",
    "NOT OK: required 1 of 3 pass, 1 skipped; optional 0 of 1 pass; kernel 6.12.0-gateway",
  ]);
});

Deno.test("countOutcomes() leaves out what nothing was skipped of", () => {
  assertEquals(
    countOutcomes(report(row("required", "a.b", "pass"))),
    "required 1 of 1 pass; optional 0 of 0 pass",
  );
});

/** The host's clock runs from 1000 s to 1060 s meanwhile. */
for (
  const [first, last, found] of [
    [1000, 1060, "it agrees with the host's"],
    [1030, 1031, "it agrees with the host's"],
    [999, 1061, "it agrees with the host's"],
    [990, 1050, "it is at least 10 s behind the host's"],
    [1015, 1075, "it is at least 15 s ahead of the host's"],
  ] as const
) {
  Deno.test(`readVerification() of a clock from ${first} to ${last}: ${found}`, () => {
    const results = [row("required", "clock.wall", "skip"), row("required", "a.b", "pass")];
    const json = JSON.stringify({ kernel: "6.12.0-gateway", results });
    const window = { startMs: 1_000_000, endMs: 1_060_000 };
    const report = readVerification(`${first}\n${json}\n${last}\n`, "default", window);
    const right = found.startsWith("it agrees");
    assertEquals([report.results[0]?.found, report.ok], [found, right]);
    assertEquals(report.results[1]?.outcome, "pass");
  });
}

Deno.test("readVerification() refuses an answer without the readings of the clock", () => {
  const window = { startMs: 0, endMs: 1 };
  assertThrows(() => readVerification("no such command\n", "dev", window), GatewayError);
});
