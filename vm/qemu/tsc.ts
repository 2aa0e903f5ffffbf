/**
 * The frequency of the host's time stamp counter, which a guest under TCG sees as its own but cannot calibrate on a
 * busy host (see vm/qemu/tsckhz): it would fall back to counting ticks and lose half of its time.
 * It must not be used with hardware virtualization, where the guest has a clock of its own.
 *
 * @module
 */
import { join } from "@std/path";
import { writeCacheFile } from "../base/durable.ts";
import { run } from "../base/process.ts";
import { sourcePath } from "../base/source.ts";
import type { Recipe } from "../store/artifact.ts";
import { goRecipe } from "../store/go_recipe.ts";

/** Its output `tsckhz` runs on the host. */
export function tscRecipe(): Promise<Recipe> {
  return goRecipe({
    name: "tsckhz",
    label: "time stamp counter probe",
    moduleDir: sourcePath("vm/qemu/tsckhz"),
    programs: [{ pkg: ".", output: "tsckhz" }],
    arch: "amd64",
  });
}

/**
 * The host's counter frequency in kHz, measured once per boot of the host (0.2 s) and then remembered; undefined
 * when it cannot be told.
 */
export async function hostTscKHz(
  binary: string,
  cacheDir: string,
  signal: AbortSignal,
): Promise<number | undefined> {
  const bootId = await Deno.readTextFile("/proc/sys/kernel/random/boot_id").catch(() => "");
  const path = join(cacheDir, "probes", `tsc-${bootId.trim()}`);
  const known = Number(await Deno.readTextFile(path).catch(() => "0"));
  if (known > 0) return known;
  const { code, stdout } = await run(binary, { args: [], signal, timeoutMs: 10_000, check: false });
  const measured = Number(stdout.trim());
  if (code !== 0 || !(measured > 100_000)) return undefined;
  await Deno.mkdir(join(cacheDir, "probes"), { recursive: true });
  if (bootId !== "") await writeCacheFile(path, String(measured), 0o644);
  return measured;
}
