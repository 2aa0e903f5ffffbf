import { assertEquals, assertMatch } from "@std/assert";
import { foreignTools, ruleText } from "./foreign.ts";

Deno.test("ruleText() takes arm64 programs of Linux by the first bytes of their file", () => {
  const [, name, kind, offset, head, mask, interpreter, flags] = ruleText("gateway-arm64", "/q")
    .split(":");
  assertEquals([name, kind, offset, interpreter, flags], ["gateway-arm64", "M", "", "/q", "F"]);
  assertEquals(head!.length, mask!.length);
  assertMatch(head!, /^\\x7f\\x45\\x4c\\x46\\x02\\x01\\x01(\\x00){9}\\x02\\x00\\xb7\\x00$/);
});

Deno.test("foreignTools() are only needed for another processor", () => {
  assertEquals(foreignTools("arm64", "arm64"), []);
  const programs = foreignTools("arm64", "amd64").map(({ program }) => program);
  assertEquals(programs, ["qemu-aarch64-static", "arch-test"]);
});
