/**
 * The runtime in the one file: for this host the one that runs, for another target that of its npm package, pinned by
 * digest.
 *
 * @module
 */
import { join } from "@std/path";
import { hostArch, UNAME_MACHINE } from "../../vm/base/arch.ts";
import { GatewayError, usageError } from "../../vm/base/error.ts";
import { run } from "../../vm/base/process.ts";
import { ArtifactStore, type BuildContext, type Recipe } from "../../vm/store/artifact.ts";
import type { EnsureArtifactsOptions } from "../artifacts/ensure.ts";

/** A system that the one file can be made for on Linux, in the words of npm's packages. */
export type Target = "linux-x64" | "linux-arm64";

/** A runtime as a file of this host. */
export interface Runtime {
  readonly path: string;
  /** Where it runs, as `uname -sm` says it. */
  readonly system: string;
}

interface Pin {
  readonly name: string;
  readonly version: string;
  /** Of the package's archive, in npm's form. */
  readonly integrity: string;
  readonly system: string;
}

/** From npm's own records; the version is that of the commands in the README. */
const PINS: Readonly<Record<Target, Pin>> = {
  "linux-x64": {
    name: "@deno/linux-x64-glibc",
    version: "2.9.6",
    integrity:
      "sha512-3md4TKLCuzsLDmfOoC5KN7NAZaxSVkMgm64vg6foD00JBADCpYS2/5QqXfzgnP5ZQz3iLP9vBQJtEgc116OAoQ==",
    system: `Linux ${UNAME_MACHINE.amd64}`,
  },
  "linux-arm64": {
    name: "@deno/linux-arm64-glibc",
    version: "2.9.6",
    integrity:
      "sha512-poqhoH9B3nYloigEMPT5t8HY+wBeiuea1An5Q7fqgJzP0SYmWsoS/oUnWO/pEiA4ofzIBy1Elt/in58xKtxEoQ==",
    system: `Linux ${UNAME_MACHINE.arm64}`,
  },
};

/** Every {@linkcode Target}. */
export const TARGETS = Object.keys(PINS) as Target[];

/** This host's. */
export const HOST_TARGET: Target = hostArch() === "arm64" ? "linux-arm64" : "linux-x64";

/** Targets in a user's words. @throws GatewayError `usage`. */
export function parseTargets(word: string): Target[] {
  if (word === "all") return TARGETS;
  const target = TARGETS.find((one) => one === word);
  if (target !== undefined) return [target];
  throw usageError(
    `Cannot compile for "${word}"`,
    `the targets are ${[...TARGETS, "all"].join(", ")}`,
    `pass --target ${TARGETS[0]}`,
  );
}

/** The runtime that runs this. */
export function ownRuntime(): Runtime {
  return { path: Deno.execPath(), system: PINS[HOST_TARGET].system };
}

/**
 * The runtime of a target.
 *
 * @throws GatewayError as a build.
 */
export async function runtimeFor(
  target: Target,
  options: Pick<EnsureArtifactsOptions, "span" | "signal" | "assumeYes" | "store">,
): Promise<Runtime> {
  if (target === HOST_TARGET) return ownRuntime();
  const { store = new ArtifactStore() } = options;
  const { files } = await store.ensure(runtimeRecipe(target), options);
  return { path: files.deno!.path, system: PINS[target].system };
}

/** Its output `deno` runs on the target. */
export function runtimeRecipe(target: Target, pin: Pin = PINS[target]): Recipe {
  const { name, version, integrity } = pin;
  return {
    name: `runtime-${target}`,
    label: `Deno ${version} for ${target}`,
    inputs: { package: `${name}@${version}`, integrity },
    outputs: ["deno"],
    tools: [{ program: "npm", debian: "npm" }, { program: "tar", debian: "tar" }],
    build: (ctx) => fetchRuntime(pin, ctx),
  };
}

async function fetchRuntime(
  { name, version, integrity }: Pin,
  ctx: BuildContext,
): Promise<Record<string, string>> {
  const tool = { cwd: ctx.workDir, signal: ctx.signal, logPath: ctx.logPath };
  await run("npm", {
    ...tool,
    args: ["pack", "--silent", "--ignore-scripts", `${name}@${version}`],
    timeoutMs: 10 * 60_000,
    code: "network-failed",
    what: `Cannot get the package ${name}`,
  });
  const archive = join(ctx.workDir, `${name.slice(1).replace("/", "-")}-${version}.tgz`);
  const found = await integrityOf(archive);
  if (found !== integrity) {
    await Deno.remove(archive);
    throw new GatewayError({
      code: "artifact-corrupt",
      what: `Cannot use the package ${name} ${version}`,
      why: `its digest is ${found} instead of ${integrity}`,
      fix: "try again; if it stays so, the package is not the one that was pinned",
    });
  }
  await run("tar", {
    ...tool,
    args: ["-xzf", archive, "-C", ctx.outDir, "--strip-components=1", "package/deno"],
    timeoutMs: 120_000,
  });
  await Deno.chmod(join(ctx.outDir, "deno"), 0o755);
  await Deno.remove(archive);
  return { package: `${name}@${version}` };
}

/** In npm's form. */
async function integrityOf(path: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-512", await Deno.readFile(path));
  return `sha512-${new Uint8Array(digest).toBase64()}`;
}
