/**
 * Signatures in programs for macOS: of one that Go's linker has signed, and of made ones with every fault.
 *
 * @module
 */
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { run } from "../vm/base/process.ts";
import { findSignatureFault, readMacSignature } from "../vm/libkrun/mac_signature.ts";
import { machO, type MachOptions } from "./fakes/mach_o.ts";

const HYPERVISOR = "com.apple.security.hypervisor";
const JIT = "com.apple.security.cs.allow-jit";

async function withProgram(
  bytes: Uint8Array<ArrayBuffer>,
  body: (path: string) => Promise<void>,
): Promise<void> {
  const path = await Deno.makeTempFile();
  try {
    await Deno.writeFile(path, bytes);
    await body(path);
  } finally {
    await Deno.remove(path);
  }
}

const faultOf = async (bytes: Uint8Array<ArrayBuffer>) => {
  let fault: string | undefined;
  await withProgram(bytes, async (path) => {
    fault = await findSignatureFault(path);
  });
  return fault;
};

/** The same with one byte changed. */
function changed(bytes: Uint8Array<ArrayBuffer>, at: number): Uint8Array<ArrayBuffer> {
  const copy = bytes.slice();
  copy[at]! ^= 1;
  return copy;
}

Deno.test("a program that Go signed for a Mac has a sound signature of nobody's", async () => {
  const dir = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(join(dir, "go.mod"), "module empty\n");
    await Deno.writeTextFile(join(dir, "main.go"), "package main\n\nfunc main() {}\n");
    const env = { GOOS: "darwin", GOARCH: "arm64", CGO_ENABLED: "0", GOFLAGS: "-p=1" };
    const program = join(dir, "empty");
    await run("go", { args: ["build", "-o", program], cwd: dir, env, timeoutMs: 5 * 60_000 });
    assertEquals(await readMacSignature(program), {
      ...{ adHoc: true, hardened: false, entitlements: [] },
    });
    assertEquals(await findSignatureFault(program), undefined);
    const bytes = await Deno.readFile(program);
    assertMatch(await faultOf(changed(bytes, 20_000)) ?? "", /^page \d+ is not what was signed$/);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("readMacSignature() tells what a program may do, and nothing of other files", async () => {
  const read = async (options: MachOptions) => {
    let found: unknown;
    await withProgram(machO(options), async (path) => {
      found = await readMacSignature(path);
    });
    return found;
  };
  assertEquals(await read({ entitlements: [HYPERVISOR, JIT] }), {
    ...{ adHoc: true, hardened: false, entitlements: [JIT, HYPERVISOR] },
  });
  assertEquals(await read({ entitlements: [], flags: 0x10000 }), {
    ...{ adHoc: false, hardened: true, entitlements: [] },
  });
  assertEquals(await readMacSignature("/bin/true"), undefined);
  for (const size of [0, 10, 40, 12_400, 12_500]) {
    await withProgram(machO({ entitlements: [JIT] }).slice(0, size), async (path) => {
      assertEquals(await readMacSignature(path), undefined);
    });
  }
});

Deno.test("findSignatureFault() finds every part that is not as it was signed", async () => {
  const program = machO({ entitlements: [HYPERVISOR] });
  assertEquals(await faultOf(program), undefined);
  assertEquals(await faultOf(changed(program, 5000)), "page 1 is not what was signed");
  // In the last page, of which a part is signed.
  assertEquals(await faultOf(changed(program, 3 * 4096 + 50)), "page 3 is not what was signed");
  const text = new TextDecoder("latin1").decode(program).indexOf("<plist>");
  assertEquals(
    await faultOf(changed(program, text + 1)),
    "its entitlements are not what was signed",
  );
  assertEquals(
    await faultOf(changed(program, program.length - 1)),
    "its entitlementsDer are not what was signed",
  );
  const differing = machO({ entitlements: [HYPERVISOR], der: [] });
  assertStringIncludes(await faultOf(differing) ?? "", `"${HYPERVISOR}" as text and "" as DER`);
  assertStringIncludes(await faultOf(new Uint8Array(10)) ?? "", "no program for macOS");
});
