/**
 * Builds libkrun from its pinned crate: an empty crate of ours names it and its lock file pins everything below.
 * It must not patch it: what is driven is the real library.
 *
 * @module
 */
import { join } from "@std/path";
import { GatewayError } from "../base/error.ts";
import type { HostTool } from "../base/host_tools.ts";
import { run } from "../base/process.ts";
import { sourcePath } from "../base/source.ts";
import { type BuildContext, digestTree, type Recipe } from "../store/artifact.ts";

/** The pinned version of the crate, as in vm/libkrun/crate/Cargo.toml. */
export const LIBKRUN_VERSION = "1.19.7";

/** The crate that pins it. */
export const LIBKRUN_CRATE = sourcePath("vm/libkrun/crate");

/** The oldest Rust that the pinned crates accept. */
const RUST_VERSION_MIN = [1, 87] as const;

/** Host tools of the build; libc6-dev has the static libc that libkrun's own init is linked with. */
export const LIBKRUN_TOOLS: readonly HostTool[] = [
  { program: "cargo", debian: "cargo" },
  { program: "cc", debian: "gcc" },
  { program: "libc6-dev", debian: "libc6-dev", path: "/usr/include/stdio.h" },
];

/** The output's name, by which its version is known. */
export const LIBKRUN_FILE = `libkrun.so.${LIBKRUN_VERSION}`;

/** Its one output is loaded on the host. */
export async function libkrunRecipe(arch: string): Promise<Recipe> {
  return {
    name: "libkrun",
    label: `libkrun ${LIBKRUN_VERSION}`,
    inputs: { source: await digestTree(LIBKRUN_CRATE), platform: `linux/${arch}` },
    outputs: [LIBKRUN_FILE],
    tools: LIBKRUN_TOOLS,
    build: buildLibkrun,
  };
}

async function buildLibkrun(ctx: BuildContext): Promise<Record<string, string>> {
  const rust = await checkRustVersion(ctx);
  // Everything cargo downloads and leaves stays with the other build caches, and the crate's folder stays as it is.
  const target = join(ctx.workDir, "target");
  await run("cargo", {
    args: ["build", "--release", "--locked", "-p", "libkrun", "--jobs", String(ctx.jobs)],
    cwd: LIBKRUN_CRATE,
    env: { CARGO_TARGET_DIR: target, CARGO_TERM_COLOR: "never" },
    logPath: ctx.logPath,
    signal: ctx.signal,
    timeoutMs: 60 * 60_000,
    niceness: 10,
    code: "build-failed",
    what: `Cannot build libkrun ${LIBKRUN_VERSION}`,
  });
  await Deno.copyFile(join(target, "release/libkrun.so"), join(ctx.outDir, LIBKRUN_FILE));
  return { version: LIBKRUN_VERSION, features: "net,blk", rust };
}

async function checkRustVersion(ctx: BuildContext): Promise<string> {
  const { stdout } = await run("cargo", {
    args: ["--version"],
    signal: ctx.signal,
    timeoutMs: 30_000,
  });
  const match = /^cargo (\d+)\.(\d+)/.exec(stdout);
  const [major, minor] = match ? [Number(match[1]), Number(match[2])] : [0, 0];
  if (major > RUST_VERSION_MIN[0] || minor >= RUST_VERSION_MIN[1]) return stdout.trim();
  throw new GatewayError({
    code: "tool-missing",
    what: "Cannot build libkrun with this Rust",
    why: `it is ${stdout.trim()} and ${RUST_VERSION_MIN.join(".")} or later is needed`,
    fix: "install a newer Rust and put its cargo first on PATH",
  });
}

/** How a Mac gets the library. Homebrew reads formulas of others only once their tap is trusted, since its version 6. */
export const LIBKRUN_BREW =
  "brew tap libkrun/krun && brew trust libkrun/krun && brew install libkrun";

/** What a host does that is not Linux. */
export function libkrunFormulaError(os: string): GatewayError {
  return new GatewayError({
    code: "not-supported",
    what: `Cannot build libkrun on "${os}"`,
    why: "it is built from source on Linux only",
    fix: os === "darwin" ? `install its Homebrew formula: ${LIBKRUN_BREW}` : "use a Linux host",
  });
}
