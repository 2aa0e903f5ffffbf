/**
 * The recipe of programs of one Go module: versions and digests are those of its go.mod and go.sum, which the digest
 * of its folder covers. It must not know what the programs are for.
 *
 * @module
 */
import { join } from "@std/path";
import type { Arch } from "../base/arch.ts";
import { exists } from "../base/layout.ts";
import {
  type BuildContext,
  canonicalJson,
  digestFile,
  digestTree,
  type Recipe,
} from "./artifact.ts";
import { GO_TOOL, goBuild } from "./go_build.ts";

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
  /** The folder of go.mod. */
  readonly moduleDir: string;
  readonly programs: readonly GoProgram[];
  readonly tags?: readonly string[];
  readonly arch: Arch;
  readonly goos?: "linux" | "darwin";
  /** Settings of variables, `-X package.name=value` each. */
  readonly ldflags?: string;
  /** See {@linkcode GoBuildOptions.experiments}. */
  readonly experiments?: readonly string[];
  /** Facts for the manifest. */
  readonly facts?: Readonly<Record<string, string>>;
}

/** A recipe that builds programs of one Go module. */
export async function goRecipe(options: GoRecipeOptions): Promise<Recipe> {
  const { moduleDir, programs, tags = [], arch, goos = "linux", ldflags = "" } = options;
  const { experiments = [] } = options;
  return {
    name: options.name,
    label: options.label,
    inputs: {
      source: await digestTree(moduleDir),
      programs: canonicalJson(programs.map(({ pkg, output }) => ({ pkg, output }))),
      tags: tags.join(","),
      ldflags,
      platform: `${goos}/${arch}`,
      ...experiments.length > 0 ? { experiments: experiments.join(",") } : {},
    },
    outputs: programs.map((program) => program.output),
    tools: [GO_TOOL],
    build: async (ctx: BuildContext) => {
      for (const { pkg, output } of programs) {
        ctx.span.log(`building ${output}`);
        await goBuild({
          moduleDir,
          pkg,
          output,
          tags,
          ldflags,
          experiments,
          goarch: arch,
          goos,
          ctx,
        });
      }
      return { ...options.facts, lockFiles: await lockFiles(moduleDir) };
    },
  };
}

/** Digests of what pins the module's versions; a module without dependencies has no go.sum. */
async function lockFiles(moduleDir: string): Promise<Record<string, string>> {
  const digests: Record<string, string> = {};
  for (const name of ["go.mod", "go.sum"]) {
    const path = join(moduleDir, name);
    if (await exists(path)) digests[name] = await digestFile(path);
  }
  return digests;
}
