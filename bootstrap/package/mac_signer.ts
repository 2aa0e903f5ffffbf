/**
 * Signs a program for macOS on Linux, with rcodesign: the kernel there runs nothing for Apple silicon that is not signed,
 * and lets only a program with the right entitlement make VMs. Nobody in particular signs (ad hoc), as `codesign -s -` does.
 * It must not be used for what Apple is to notarize, which takes a developer's certificate.
 *
 * @module
 */
import { join } from "@std/path";
import { digestFile } from "../../vm/base/digest.ts";
import { GatewayError } from "../../vm/base/error.ts";
import { exists } from "../../vm/base/layout.ts";
import { run } from "../../vm/base/process.ts";
import { findSignatureFault, readMacSignature } from "../../vm/libkrun/mac_signature.ts";
import { ENTITLEMENTS, entitlementsPlist } from "../../vm/libkrun/signed_runtime.ts";
import type { BuildContext, Recipe } from "../../vm/store/artifact.ts";
import { wrongDownload } from "../../vm/store/errors.ts";

/** The crate apple-codesign, whose lock file pins the rest. */
const CRATE = {
  name: "apple-codesign",
  version: "0.29.0",
  sha256: "f24e9ebdb70a2aee3ca1cea217009fb50776955f0d7678c31d22e48c1524667f",
} as const;

/** Its output `rcodesign` runs on this host. */
export function signerRecipe(): Recipe {
  return {
    name: "rcodesign",
    label: `rcodesign ${CRATE.version}`,
    inputs: { crate: `${CRATE.name}@${CRATE.version}`, sha256: CRATE.sha256 },
    outputs: ["rcodesign"],
    tools: [{ program: "cargo", debian: "cargo" }, { program: "cc", debian: "gcc" }],
    build: buildSigner,
  };
}

async function buildSigner(ctx: BuildContext): Promise<Record<string, string>> {
  const { name, version, sha256 } = CRATE;
  await run("cargo", {
    args: [
      ...["install", name, "--version", version, "--locked", "--no-default-features"],
      ...["--root", ctx.workDir, "--jobs", String(ctx.jobs)],
    ],
    env: { CARGO_TERM_COLOR: "never", CARGO_TARGET_DIR: join(ctx.workDir, "target") },
    logPath: ctx.logPath,
    signal: ctx.signal,
    timeoutMs: 60 * 60_000,
    niceness: 10,
    code: "build-failed",
    what: `Cannot build rcodesign ${version}`,
  });
  // cargo compares what it downloads with the registry's index only.
  const found = await crateDigest();
  if (found !== sha256) throw wrongDownload(`${name} ${version}`, found, sha256);
  await Deno.copyFile(join(ctx.workDir, "bin/rcodesign"), join(ctx.outDir, "rcodesign"));
  return { version, sha256 };
}

/** Of the crate's archive as cargo has downloaded it; "unknown" where it is not in its folder. */
async function crateDigest(): Promise<string> {
  const home = Deno.env.get("CARGO_HOME") ?? join(Deno.env.get("HOME") ?? "/", ".cargo");
  const cache = join(home, "registry/cache");
  for await (const { name } of Deno.readDir(cache)) {
    const archive = join(cache, name, `${CRATE.name}-${CRATE.version}.crate`);
    if (await exists(archive)) return await digestFile(archive);
  }
  return "unknown";
}

/**
 * Signs a program in place with what makes VMs, and looks at the result as macOS does.
 *
 * @throws GatewayError `build-failed` when the signature is not as it has to be.
 */
export async function signForMac(
  program: string,
  signer: Recipe,
  ctx: BuildContext,
): Promise<void> {
  const { files } = await ctx.store.ensure(signer, { ...ctx, assumeYes: false });
  const plist = join(ctx.workDir, "entitlements.plist");
  await Deno.writeTextFile(plist, entitlementsPlist());
  await run(files.rcodesign!.path, {
    args: [
      ...["sign", "--entitlements-xml-path", plist, "--binary-identifier", "gateway"],
      // A flag takes the place of those of before, the hardened runtime; this one rcodesign leaves out when it writes.
      ...["--code-signature-flags", "linker-signed", program],
    ],
    logPath: ctx.logPath,
    signal: ctx.signal,
    timeoutMs: 5 * 60_000,
    what: "Cannot sign the program for macOS",
  });
  const why = await findRuntimeFault(program);
  if (why === undefined) return;
  throw new GatewayError({
    code: "build-failed",
    what: "Cannot use the program that was signed for macOS",
    why,
    fix: `see the log "${ctx.logPath}"`,
  });
}

/**
 * Why a Mac would not start a runtime or let it make VMs; undefined where nothing is wrong. It begins at byte `start` of the
 * file.
 */
export async function findRuntimeFault(path: string, start = 0): Promise<string | undefined> {
  const fault = await findSignatureFault(path, start);
  if (fault !== undefined) return fault;
  const signature = await readMacSignature(path, start);
  if (!signature?.adHoc) return "somebody is named as its signer";
  if (signature.hardened) return "it has the hardened runtime";
  const missing = ENTITLEMENTS.filter((name) => !signature.entitlements.includes(name));
  return missing.length > 0 ? `it lacks ${missing.join(", ")}` : undefined;
}
