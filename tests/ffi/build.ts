// deno-lint-ignore-file no-console
/**
 * Makes what the tests of this folder open, in dist/ffi: fake libraries of a few lines of C, and a link to the real libkrun.
 * The tests themselves may only read files and call into libraries.
 *
 * @module
 */
import { fromFileUrl, join } from "@std/path";
import { describeError } from "../../vm/base/error.ts";
import { silentSpan } from "../../vm/base/event.ts";
import { run } from "../../vm/base/process.ts";
import { LIBKRUN_FILE, libkrunRecipe } from "../../vm/libkrun/build.ts";
import { ArtifactStore } from "../../vm/store/artifact.ts";
import { type Built, BUILT_DIR, BUILT_FILE, OLD_NAME } from "./built.ts";

async function compile(name: string, source: string, defines: readonly string[]): Promise<void> {
  const from = fromFileUrl(new URL(`../fakes/${source}`, import.meta.url));
  const flags = ["-shared", "-fPIC", "-Wall", "-Werror", ...defines.map((define) => `-D${define}`)];
  await run("cc", { args: [...flags, "-o", join(BUILT_DIR, name), from], timeoutMs: 60_000 });
}

/** The real library, built where it is not there yet. */
async function realLibrary(): Promise<Built["real"]> {
  const options = { span: silentSpan(), signal: new AbortController().signal, assumeYes: true };
  try {
    const store = new ArtifactStore();
    const artifact = await store.ensure(await libkrunRecipe(Deno.build.arch), options);
    return { path: artifact.files[LIBKRUN_FILE]!.path };
  } catch (error) {
    return { missing: describeError(error) };
  }
}

await Deno.mkdir(BUILT_DIR, { recursive: true });
await compile("libkrun.so", "krun.c", []);
await compile("libkrun-old.so", "krun.c", ["OLD"]);
await compile("libkrun-no-net.so", "krun.c", ["NO_NET"]);
await compile("libkrunfw.so.5", "krunfw_kernel.c", []);
await Deno.copyFile(join(BUILT_DIR, "libkrun-old.so"), join(BUILT_DIR, OLD_NAME));
const built: Built = { real: await realLibrary() };
await Deno.writeTextFile(BUILT_FILE, JSON.stringify(built) + "\n");
console.log(`Built "${BUILT_DIR}".`);
