/**
 * Unit tests of the recipe's pure parts, the lock file and what apt's answers are read as.
 *
 * @module
 */
import { assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { GatewayError } from "../vm/base/error.ts";
import { recipeKey } from "../vm/store/artifact.ts";
import { checkBuildPath, countCompiled, kernelRecipe } from "./kernel.ts";
import { packageFileName, parseKernelLock } from "./lock.ts";
import { parseMadison, parseShownDigest } from "./source.ts";

const LOCK = {
  schemaVersion: 1,
  source: {
    package: "linux-source-6.12",
    version: "6.12.1-1~deb12u1",
    sha256: "0".repeat(64),
    sizeBytes: 1,
    archive: "usr/src/linux-source-6.12.tar.xz",
  },
  buildTimestamp: "2026-01-02 03:04:05 UTC",
  toolchain: { x86_64: { compiler: "gcc", crossPrefix: "" } },
};

Deno.test("parseKernelLock() returns what the file pins", () => {
  assertEquals(parseKernelLock(JSON.stringify(LOCK)).source.version, "6.12.1-1~deb12u1");
});

Deno.test("parseKernelLock() names the field when a digest is cut", () => {
  const bad = { ...LOCK, source: { ...LOCK.source, sha256: "abc" } };
  const error = assertThrows(() => parseKernelLock(JSON.stringify(bad)), GatewayError);
  assertEquals(error.why.startsWith("source.sha256:"), true);
});

Deno.test("parseKernelLock() refuses text that is not JSON and fields nobody knows", () => {
  assertThrows(() => parseKernelLock("{"), GatewayError, "it is not JSON");
  assertThrows(() => parseKernelLock(JSON.stringify({ ...LOCK, more: 1 })), GatewayError, "more");
});

Deno.test("packageFileName() escapes an epoch as apt does", () => {
  assertEquals(packageFileName("p", "1:2-3"), "p_1%3a2-3_all.deb");
  assertEquals(packageFileName("p", "2~deb12u1"), "p_2~deb12u1_all.deb");
});

Deno.test("parseMadison() lists each version once, newest first", () => {
  const text = " linux-source-6.12 | 6.12.9-1 | http://a bookworm/main amd64 Packages\n" +
    " linux-source-6.12 | 6.12.9-1 | http://b bookworm/main amd64 Packages\n" +
    " linux-source-6.12 | 6.12.8-1 | http://a bookworm/main amd64 Packages\n";
  assertEquals(parseMadison(text), ["6.12.9-1", "6.12.8-1"]);
  assertEquals(parseMadison(""), []);
});

Deno.test("parseShownDigest() finds the sha256 and nothing else", () => {
  const digest = "a".repeat(64);
  assertEquals(parseShownDigest(`Package: p\nMD5sum: x\nSHA256: ${digest}\nSize: 1\n`), digest);
  assertEquals(parseShownDigest("Package: p\n"), undefined);
});

Deno.test("countCompiled() counts compiled and assembled files only", () => {
  const text = "  CC      a.o\n  AS      b.o\n  HOSTCC  c.o\n  AR      d.a\n  CC      e.o\n";
  assertEquals(countCompiled(text), 3);
});

Deno.test("kernelRecipe() has the same key each time and names its outputs", async () => {
  const [one, two] = [await kernelRecipe("amd64"), await kernelRecipe("amd64")];
  assertEquals(recipeKey(one), recipeKey(two));
  assertEquals(one.outputs, ["vmlinux", "bzImage", "config"]);
  const other = { ...one, inputs: { ...one.inputs, options: "changed" } };
  assertNotEquals(recipeKey(other), recipeKey(one));
});

Deno.test("checkBuildPath() refuses what make cannot build in", () => {
  checkBuildPath("/home/ü,%/work");
  for (const path of ["/home/a b/work", "/home/a:b/work"]) {
    assertEquals(assertThrows(() => checkBuildPath(path), GatewayError).code, "host-unsupported");
  }
});
