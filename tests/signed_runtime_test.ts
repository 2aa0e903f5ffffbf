/**
 * The signed copy of the runtime that macOS wants, with a fake codesign.
 *
 * @module
 */
import { assertEquals, assertMatch } from "@std/assert";
import { join } from "@std/path";
import { ensureSignedRuntime, ENTITLEMENTS } from "../vm/libkrun/signed_runtime.ts";
import { installFake, withPath } from "./fakes/install.ts";
import { machO } from "./fakes/mach_o.ts";

Deno.test("ensureSignedRuntime() signs a copy once and leaves the program alone", async () => {
  await using fake = await installFake("codesign.sh", "codesign");
  await fake.set("deno", "the runtime\n");
  await withPath(fake.dir, async () => {
    const program = join(fake.dir, "deno");
    const sign = () => ensureSignedRuntime(program, fake.dir, "darwin");
    const signed = await sign();
    assertMatch(signed, /\/runtime\/gateway-vmm-[0-9a-f]{16}$/);
    assertEquals(await Deno.readTextFile(signed), "the runtime\nsigned\n");
    assertEquals(await fake.get("deno"), "the runtime\n");
    assertEquals(await sign(), signed);
    const [call, ...more] = (await fake.get("calls")).trim().split("\n");
    const plist = signed.replace("gateway-vmm-", "") + ".plist";
    assertEquals([call, more], [`--sign - --force --entitlements ${plist} ${signed}.tmp`, []]);
    const text = await Deno.readTextFile(plist);
    assertEquals(
      ENTITLEMENTS.filter((name) => !text.includes(`<key>${name}</key>\n  <true/>`)),
      [],
    );
    await fake.set("deno", "another runtime");
    assertEquals(await sign() === signed, false);
  });
});

Deno.test("ensureSignedRuntime() takes a program as it is that may make VMs, and no other", async () => {
  await using fake = await installFake("codesign.sh", "codesign");
  await withPath(fake.dir, async () => {
    const program = join(fake.dir, "deno");
    const start = async (entitlements: readonly string[]) => {
      await Deno.writeFile(program, machO({ entitlements }));
      return await ensureSignedRuntime(program, fake.dir, "darwin");
    };
    assertEquals(await start(ENTITLEMENTS), program);
    assertEquals(await fake.get("calls"), "");
    assertMatch(await start(ENTITLEMENTS.slice(1)), /\/runtime\/gateway-vmm-[0-9a-f]{16}$/);
  });
});

Deno.test("ensureSignedRuntime() does nothing elsewhere", async () => {
  assertEquals(await ensureSignedRuntime("/bin/deno", "/nowhere", "linux"), "/bin/deno");
});
