/**
 * Recipes for the Go programs of the guest: each is a module of its own beside this file, with its
 * versions and digests in go.mod and go.sum. It must not know where in the guest a program goes.
 *
 * @module
 */
import { fromFileUrl } from "@std/path";
import { type BuildContext, canonicalJson, digestTree, type Recipe } from "../vm/artifact.ts";
import { GO_TOOL, goBuild } from "../vm/go_build.ts";
import type { GuestArch } from "./lock.ts";

/** One program of a Go module. */
export interface GoProgram {
  /** Package in the module, or one that the module requires. */
  readonly pkg: string;
  /** File name of the program. */
  readonly output: string;
}

/** What {@linkcode goRecipe} needs. */
export interface GoRecipeOptions {
  readonly name: string;
  readonly label: string;
  /** Folder beside this file that holds go.mod. */
  readonly dir: string;
  readonly programs: readonly GoProgram[];
  readonly tags?: readonly string[];
  readonly arch: GuestArch;
  readonly goos?: "linux" | "darwin";
  /** Facts for the manifest. */
  readonly facts?: Readonly<Record<string, string>>;
}

/** A recipe that builds programs of one Go module. */
export async function goRecipe(options: GoRecipeOptions): Promise<Recipe> {
  const moduleDir = fromFileUrl(new URL(options.dir, import.meta.url));
  const { programs, tags = [], arch, goos = "linux" } = options;
  return {
    name: options.name,
    label: options.label,
    inputs: {
      source: await digestTree(moduleDir),
      programs: canonicalJson(programs.map(({ pkg, output }) => ({ pkg, output }))),
      tags: tags.join(","),
      platform: `${goos}/${arch}`,
    },
    outputs: programs.map((program) => program.output),
    tools: [GO_TOOL],
    build: async (ctx: BuildContext) => {
      for (const { pkg, output } of programs) {
        ctx.span.log(`building ${output}`);
        await goBuild({ moduleDir, pkg, output, tags, goarch: arch, goos, ctx });
      }
      return { ...options.facts };
    },
  };
}

/** The guest's end of the console ports. */
export function agentRecipe(arch: GuestArch): Promise<Recipe> {
  return goRecipe({
    name: "agent",
    label: "guest agent",
    dir: "agent",
    programs: [{ pkg: ".", output: "agent" }],
    arch,
  });
}

/** The CNI plugins that the bridge network needs. */
export function cniRecipe(arch: GuestArch): Promise<Recipe> {
  const plugins = "github.com/containernetworking/plugins/plugins";
  return goRecipe({
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
