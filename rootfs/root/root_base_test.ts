import { assertEquals, assertThrows } from "@std/assert";
import { GatewayError } from "../../vm/base/error.ts";
import { baseAgeDays, packageDigests, packageVersions } from "./root_base.ts";

Deno.test("packageVersions() reads names and versions when a status file has several packages", () => {
  const status =
    "Package: a\nStatus: install ok installed\nVersion: 1:2-3\nDescription: x\n Version: no\n\n" +
    "Package: b\nVersion: 4\n";
  assertEquals(packageVersions(status), { a: "1:2-3", b: "4" });
});

const [OLD, NEW, B] = ["0".repeat(64), "1".repeat(64), "2".repeat(64)];
const entry = (name: string, version: string, sha256: string) =>
  `Package: ${name}\nVersion: ${version}\nFilename: pool/x.deb\nSHA256: ${sha256}\nDescription: y\n\n`;

Deno.test("packageDigests() takes the digest of the installed version, from whichever index has it", () => {
  const indexes = [
    entry("a", "1", OLD) + entry("aa", "2", B),
    entry("a", "2", NEW) + entry("b", "1:4+b1", B),
  ];
  assertEquals(packageDigests({ a: "2", b: "1:4+b1" }, indexes), { a: NEW, b: B });
});

Deno.test("packageDigests() refuses a package that no index has in that version", () => {
  for (const indexes of [[], [entry("a", "1", OLD)], ["Package: a\nVersion: 2\n\n"]]) {
    const error = assertThrows(() => packageDigests({ a: "2" }, indexes), GatewayError);
    assertEquals(error.code, "build-failed");
  }
});

Deno.test("baseAgeDays() counts whole days", () => {
  const base = { builtAt: "2026-01-01T12:00:00.000Z", digest: "" };
  const at = (time: string) => baseAgeDays(base, Date.parse(time));
  assertEquals([at("2026-01-02T11:59:00Z"), at("2026-01-31T12:00:00Z")], [0, 30]);
});
