/**
 * The runtime in the one file: for this host the one that runs, for another target that of its npm package, pinned by
 * digest, and signed anew for a Mac.
 *
 * @module
 */
import { join } from "@std/path";
import { type HostPlatform, thisHost, UNAME_MACHINE } from "../../vm/base/arch.ts";
import { usageError } from "../../vm/base/error.ts";
import { run } from "../../vm/base/process.ts";
import { ENTITLEMENTS } from "../../vm/libkrun/signed_runtime.ts";
import {
  ArtifactStore,
  type BuildContext,
  type Recipe,
  recipeKey,
} from "../../vm/store/artifact.ts";
import { wrongDownload } from "../../vm/store/errors.ts";
import type { EnsureArtifactsOptions } from "../artifacts/ensure.ts";
import { signerRecipe, signForMac } from "./mac_signer.ts";

/** A system that the one file can be made for on Linux, in the words of npm's packages. */
export type Target = "linux-x64" | "linux-arm64" | "darwin-arm64";

/** A runtime as a file of this host. */
export interface Runtime {
  readonly path: string;
  /** Where it runs, as `uname -sm` says it. */
  readonly system: string;
}

/** A package of npm. */
export interface Pin {
  readonly name: string;
  readonly version: string;
  /** Of the package's archive, in npm's form. */
  readonly integrity: string;
  readonly platform: HostPlatform;
}

/** From npm's own records; the version is that of the commands in the README. */
const PINS: Readonly<Record<Target, Pin>> = {
  "linux-x64": {
    name: "@deno/linux-x64-glibc",
    version: "2.9.6",
    integrity:
      "sha512-3md4TKLCuzsLDmfOoC5KN7NAZaxSVkMgm64vg6foD00JBADCpYS2/5QqXfzgnP5ZQz3iLP9vBQJtEgc116OAoQ==",
    platform: { os: "linux", arch: "amd64" },
  },
  "linux-arm64": {
    name: "@deno/linux-arm64-glibc",
    version: "2.9.6",
    integrity:
      "sha512-poqhoH9B3nYloigEMPT5t8HY+wBeiuea1An5Q7fqgJzP0SYmWsoS/oUnWO/pEiA4ofzIBy1Elt/in58xKtxEoQ==",
    platform: { os: "linux", arch: "arm64" },
  },
  "darwin-arm64": {
    name: "@deno/darwin-arm64",
    version: "2.9.6",
    integrity:
      "sha512-V8uO1Aolrl/yvdMb5lOtgtigs8YuZBjrOrgviVMiYkQ0swymFfzkae1wZak4Xi24t7vf7d/eiMb/7ryjjVm+tg==",
    platform: { os: "darwin", arch: "arm64" },
  },
};

/** Every {@linkcode Target}. */
export const TARGETS = Object.keys(PINS) as Target[];

/** This host's. */
export const HOST_TARGET: Target = TARGETS.find((target) => {
  const { os, arch } = thisHost();
  return platformOf(target).os === os && platformOf(target).arch === arch;
}) ?? "linux-x64";

/** Where a file for a target runs. */
export function platformOf(target: Target): HostPlatform {
  return PINS[target].platform;
}

/** The package that a target's runtime is taken from. */
export function runtimePackage(target: Target): Pick<Pin, "name" | "version" | "integrity"> {
  return PINS[target];
}

/** A platform as `uname -sm` says it. */
function systemOf({ os, arch }: HostPlatform): string {
  return os === "darwin" ? `Darwin ${arch}` : `Linux ${UNAME_MACHINE[arch]}`;
}

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
  return { path: Deno.execPath(), system: systemOf(thisHost()) };
}

/** How what goes into a file may be got or built. */
export type PartOptions = Pick<EnsureArtifactsOptions, "span" | "signal" | "assumeYes" | "store">;

/** The runtime of a target: for this host's own the one that runs. @throws GatewayError as a build. */
export async function runtimeFor(target: Target, options: PartOptions): Promise<Runtime> {
  return target === HOST_TARGET ? ownRuntime() : await pinnedRuntime(target, options);
}

/** The runtime of a target, as it is pinned. @throws GatewayError as a build. */
export async function pinnedRuntime(target: Target, options: PartOptions): Promise<Runtime> {
  const { store = new ArtifactStore() } = options;
  const { files } = await store.ensure(runtimeRecipe(target), options);
  return { path: files.deno!.path, system: systemOf(platformOf(target)) };
}

/** Its output `deno` runs on the target. */
export function runtimeRecipe(target: Target, pin: Pin = PINS[target]): Recipe {
  const { name, version, integrity, platform } = pin;
  const signer = platform.os === "darwin" ? signerRecipe() : undefined;
  const tools = [{ program: "npm", debian: "npm" }, { program: "tar", debian: "tar" }];
  return {
    name: `runtime-${target}`,
    label: `Deno ${version} for ${target}`,
    inputs: {
      ...{ package: `${name}@${version}`, integrity },
      ...signer ? { signer: recipeKey(signer), entitlements: ENTITLEMENTS.join(" ") } : {},
    },
    outputs: ["deno"],
    tools: [...tools, ...signer?.tools ?? []],
    build: async (ctx) => {
      const facts = await fetchRuntime(pin, ctx);
      if (signer) await signForMac(join(ctx.outDir, "deno"), signer, ctx);
      return facts;
    },
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
    throw wrongDownload(`${name} ${version}`, found, integrity);
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
