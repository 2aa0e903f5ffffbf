/**
 * The recipe of our gvproxy: the Go main beside this file, built for a host.
 * It must not start it.
 *
 * @module
 */
import { type HostPlatform, thisHost } from "../vm/base/arch.ts";
import { sourcePath } from "../vm/base/source.ts";
import type { Recipe } from "../vm/store/artifact.ts";
import { goRecipe } from "../vm/store/go_recipe.ts";

/** Its output `gvproxy` runs on the host that it is for: this one by default. */
export function gvproxyRecipe({ os, arch }: HostPlatform = thisHost()): Promise<Recipe> {
  return goRecipe({
    name: "gvproxy",
    label: "gvproxy (the VM's network)",
    moduleDir: sourcePath("net/gvproxy"),
    programs: [{ pkg: ".", output: "gvproxy" }],
    goos: os,
    arch,
  });
}
