/**
 * The VMM's process as one small file of plain JavaScript: no module to look for, no types to strip, no configuration to
 * read. All of that is time until the guest runs.
 * It must not run it.
 *
 * @module
 */
import { join } from "@std/path";
import { digestBytes } from "../base/digest.ts";
import { run } from "../base/process.ts";
import { sourcePath, VMM_BUNDLE_FILE } from "../base/source.ts";
import { digestTree, type Recipe } from "../store/artifact.ts";

/** Makes the file in a folder. @throws GatewayError `process-failed`. */
export async function bundleVmmProcess(
  outDir: string,
  options: { readonly signal: AbortSignal; readonly logPath?: string },
): Promise<void> {
  const entry = sourcePath("vm/libkrun/vmm_process.ts");
  const out = join(outDir, VMM_BUNDLE_FILE);
  await run(Deno.execPath(), {
    args: ["bundle", "--quiet", "--platform", "deno", "--minify", "--output", out, entry],
    cwd: sourcePath("."),
    env: { NO_COLOR: "1" },
    timeoutMs: 2 * 60_000,
    what: "Cannot bundle the VMM's process",
    ...options,
  });
}

/** Its output is {@linkcode VMM_BUNDLE_FILE}; for a checkout, since a package brings the file. */
export async function vmmProcessRecipe(): Promise<Recipe> {
  const sources = ["deno.json", "deno.lock", "ffi", "vm"];
  const digests = await Promise.all(sources.map((name) => digestTree(sourcePath(name))));
  return {
    name: "vmm-process",
    label: "the VMM's process",
    inputs: { source: digestBytes(digests.join("\n")), runtime: Deno.version.deno },
    outputs: [VMM_BUNDLE_FILE],
    tools: [],
    build: async ({ outDir, logPath, signal }) => {
      await bundleVmmProcess(outDir, { logPath, signal });
    },
  };
}
