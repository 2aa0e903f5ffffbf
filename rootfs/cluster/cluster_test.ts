import { assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { GatewayError } from "../../vm/base/error.ts";
import { clusterFromFile, clusterFromRelease } from "./cluster.ts";

function elf(machine: number): Uint8Array {
  const bytes = new Uint8Array(64);
  bytes.set([0x7f, 0x45, 0x4c, 0x46]);
  bytes[18] = machine;
  return bytes;
}

Deno.test("clusterFromFile() takes the file's digest as its identity when it is a program", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const path = join(dir, "my-k3s");
    await Deno.writeFile(path, elf(62));
    const first = await clusterFromFile(path, "amd64");
    assertEquals([first.source, first.outputs], ["file", ["k3s"]]);
    const changed = elf(62);
    changed[40] = 1;
    await Deno.writeFile(path, changed);
    const second = await clusterFromFile(path, "amd64");
    assertEquals(first.inputs.sha256 === second.inputs.sha256, false);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("clusterFromFile() refuses when the file is no program for the guest", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const path = join(dir, "k3s");
    const why = async (arch: "amd64" | "arm64") => {
      const error = await assertRejects(() => clusterFromFile(path, arch), GatewayError);
      assertEquals(error.code, "usage");
      return error.why;
    };
    await why("amd64"); // not there
    await Deno.writeFile(path, elf(62));
    const foreign = "it is a program for amd64, and the guest's processor is arm64";
    assertEquals(await why("arm64"), foreign);
    await Deno.writeTextFile(path, "#!/bin/sh\necho no program\n");
    assertMatch(await why("amd64"), /no ELF header/);
    await Deno.writeTextFile(path, "");
    assertMatch(await why("amd64"), /no ELF header/);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("clusterFromRelease() says how to pin when the digest is missing", () => {
  const pin = { version: "v1", url: "https://example.invalid/k3s", sha256: null };
  const error = assertThrows(() => clusterFromRelease("amd64", pin), GatewayError);
  assertEquals(error.code, "usage");
  assertMatch(error.fix, /k3s\.amd64\.sha256 in rootfs\/lock\.json/);
});

Deno.test("clusterFromRelease() has another key when the digest changes", () => {
  const pin = (digit: string) => ({
    version: "v1",
    url: "https://example.invalid/k3s",
    sha256: digit.repeat(64),
  });
  const [a, b] = [clusterFromRelease("amd64", pin("a")), clusterFromRelease("amd64", pin("b"))];
  assertEquals(a.inputs.sha256 === b.inputs.sha256, false);
});
