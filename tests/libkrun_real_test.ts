/**
 * How the real library of `gateway build libkrun` finds its firmware. Its calls are tried in tests/ffi.
 *
 * @module
 */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { silentSpan } from "../vm/base/event.ts";
import { run } from "../vm/base/process.ts";
import { LIBKRUN_FILE, libkrunRecipe } from "../vm/libkrun/build.ts";
import { ArtifactStore } from "../vm/store/artifact.ts";
import { denoArgs } from "./sandbox.ts";

async function realPath(): Promise<string> {
  const options = { span: silentSpan(), signal: new AbortController().signal, assumeYes: true };
  const artifact = await new ArtifactStore().ensure(await libkrunRecipe("x86_64"), options);
  return artifact.files[LIBKRUN_FILE]!.path;
}

Deno.test("libkrun finds the libkrunfw that was opened before it, without a search path", async () => {
  const dir = await Deno.makeTempDir();
  const firmware = join(dir, "elsewhere.so");
  const here = (name: string) => fromFileUrl(new URL(`fakes/${name}`, import.meta.url));
  try {
    const flags = ["-shared", "-fPIC", "-Wl,-soname,libkrunfw.so.5"];
    await run("cc", { args: [...flags, "-o", firmware, here("krunfw.c")], timeoutMs: 60_000 });
    const enter = async (args: string[]) =>
      await run(Deno.execPath(), {
        args: denoArgs(here("enter_firmware.ts"), [await realPath(), ...args]),
        check: false,
        timeoutMs: 30_000,
      });
    assertEquals((await enter([firmware])).code, 42);
    const without = await enter([]);
    assertEquals(without.code, 1);
    assertStringIncludes(without.stderr, "krun_start_enter returned -2 (ENOENT)");
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
