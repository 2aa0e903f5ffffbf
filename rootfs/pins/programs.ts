/**
 * Recipes for the Go programs of the guest: each is a module of its own in rootfs/, with its
 * versions and digests in go.mod and go.sum. It must not know where in the guest a program goes.
 *
 * @module
 */
import type { Arch } from "../../vm/base/arch.ts";
import { sourcePath } from "../../vm/base/source.ts";
import type { Recipe } from "../../vm/store/artifact.ts";
import { goRecipe, type GoRecipeOptions } from "../../vm/store/go_recipe.ts";

/** A recipe of a Go module in rootfs/. */
export function guestGoRecipe(
  options: Omit<GoRecipeOptions, "moduleDir"> & { readonly dir: string },
): Promise<Recipe> {
  const moduleDir = sourcePath(`rootfs/${options.dir}`);
  return goRecipe({ ...options, moduleDir });
}

/** The guest's end of the console ports. */
export function agentRecipe(arch: Arch): Promise<Recipe> {
  return guestGoRecipe({
    name: "agent",
    label: "guest agent",
    dir: "agent",
    programs: [{ pkg: ".", output: "agent" }],
    arch,
  });
}

/** The CNI plugins that the bridge network needs. */
export function cniRecipe(arch: Arch): Promise<Recipe> {
  const plugins = "github.com/containernetworking/plugins/plugins";
  return guestGoRecipe({
    name: "cni-plugins",
    label: "CNI plugins",
    dir: "cni",
    programs: [
      { pkg: `${plugins}/main/bridge`, output: "bridge" },
      { pkg: `${plugins}/ipam/host-local`, output: "host-local" },
      { pkg: `${plugins}/main/loopback`, output: "loopback" },
      { pkg: `${plugins}/meta/portmap`, output: "portmap" },
    ],
    arch,
  });
}
