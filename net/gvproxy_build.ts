/**
 * The recipe of our gvproxy: the Go main beside this file, built for the host.
 * It must not start it.
 *
 * @module
 */
import { fromFileUrl } from "@std/path";
import { digestTree, type Recipe } from "../vm/artifact.ts";
import { GO_TOOL, goBuild } from "../vm/go_build.ts";

/** Its output `gvproxy` runs on the host. Versions are pinned by the module's go.sum, which the digest covers. */
export async function gvproxyRecipe(): Promise<Recipe> {
  const moduleDir = fromFileUrl(new URL("gvproxy", import.meta.url));
  const goos = Deno.build.os === "darwin" ? "darwin" : "linux";
  const goarch = Deno.build.arch === "aarch64" ? "arm64" : "amd64";
  return {
    name: "gvproxy",
    label: "gvproxy (the VM's network)",
    inputs: { source: await digestTree(moduleDir), goos, goarch },
    outputs: ["gvproxy"],
    tools: [GO_TOOL],
    build: (ctx) => goBuild({ moduleDir, pkg: ".", output: "gvproxy", goos, goarch, ctx }),
  };
}
