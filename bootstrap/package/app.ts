/**
 * The program as a folder that runs without a checkout: the bundle, the files that recipes read, and the package's
 * record, each where vm/base/source.ts looks for it.
 * It must not know what the folder is packed into.
 *
 * @module
 */
import { dirname, join, relative } from "@std/path";
import { writeFileAtomic } from "../../vm/base/durable.ts";
import { run } from "../../vm/base/process.ts";
import { RECORD_PATH, sourcePath } from "../../vm/base/source.ts";
import { bundleVmmProcess } from "../../vm/libkrun/vmm_bundle.ts";
import { sourceCommit } from "../../vm/store/builder.ts";

/** What holds files that are read at run time; code of ours is in the bundle. */
const CARRIED = ["deno.json", "LICENSE", "rootfs", "kernel", "net", "vm"];

/** TypeScript is bundled, and documents decide no bytes. */
const LEFT_OUT = /(^|\/)(\.[^/]*|node_modules)$|\.(ts|md)$|_test\.go$|\/testdata\//;

/** The paths of all files that recipes read, from the top, in name order. */
export async function carriedFiles(): Promise<string[]> {
  const found: string[] = [];
  const walk = async (name: string) => {
    if (LEFT_OUT.test(name)) return;
    if ((await Deno.stat(sourcePath(name))).isFile) found.push(name);
    else {for await (const entry of Deno.readDir(sourcePath(name))) {
        await walk(join(name, entry.name));
      }}
  };
  for (const name of CARRIED) await walk(name);
  return found.sort();
}

/** How the bundler brings `require`: node's modules are loaded at every start, used or not, which takes as long as the rest. */
const EAGER_REQUIRE =
  /import \{ createRequire as (\w+) \} from "node:module";\nvar __require = \1\(import\.meta\.url\);/;
const LAZY_REQUIRE =
  'var __require = (name) => process.getBuiltinModule("node:module").createRequire(import.meta.url)(name);';

/** Bundles a module with everything it imports; lazy imports stay lazy, as chunks beside it. */
export async function bundle(entry: string, outDir: string, signal: AbortSignal): Promise<void> {
  await run(Deno.execPath(), {
    args: [
      "bundle",
      "--quiet",
      "--platform",
      "deno",
      "--code-splitting",
      "--outdir",
      outDir,
      entry,
    ],
    cwd: sourcePath("."),
    env: { NO_COLOR: "1" },
    signal,
    timeoutMs: 5 * 60_000,
    what: "Cannot bundle the program",
  });
  for await (const { name } of Deno.readDir(outDir)) {
    const path = join(outDir, name);
    // A name that the runtime can read before it runs makes it read the chunk too, at every start.
    const text = (await Deno.readTextFile(path))
      .replaceAll(/\bimport\(("\.\/[\w.-]+\.js")\)/g, "import(((name) => name)($1))")
      .replace(EAGER_REQUIRE, LAZY_REQUIRE);
    await Deno.writeTextFile(path, text);
  }
}

/** The package's record as it is written. */
export async function writeRecord(dir: string, built: string, signal: AbortSignal): Promise<void> {
  const record = { gitCommit: await sourceCommit(signal), built };
  const path = join(dir, RECORD_PATH);
  await Deno.mkdir(dirname(path), { recursive: true });
  await writeFileAtomic(path, `${JSON.stringify(record)}\n`, 0o644);
}

/** Makes the folder, which has to be empty; `entry` is what `bundle/` starts with. */
export async function makeApp(
  dir: string,
  options: { readonly entry?: string; readonly built: string; readonly signal: AbortSignal },
): Promise<void> {
  await bundle(options.entry ?? "cli.ts", join(dir, "bundle"), options.signal);
  await bundleVmmProcess(join(dir, "bundle"), options);
  for (const name of await carriedFiles()) {
    await Deno.mkdir(dirname(join(dir, name)), { recursive: true });
    await Deno.copyFile(sourcePath(name), join(dir, name));
  }
  await writeRecord(dir, options.built, options.signal);
}

/** Every file below a folder, relative to it, in name order. */
export async function filesBelow(dir: string): Promise<string[]> {
  const found: string[] = [];
  const walk = async (below: string) => {
    for await (const entry of Deno.readDir(below)) {
      const path = join(below, entry.name);
      if (entry.isDirectory) await walk(path);
      else found.push(relative(dir, path));
    }
  };
  await walk(dir);
  return found.sort();
}
