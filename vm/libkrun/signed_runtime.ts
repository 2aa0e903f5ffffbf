/**
 * macOS lets only a program with the hypervisor entitlement make VMs. A released file's runtime has it; the Deno that runs
 * the sources has none, so a copy of it is signed once for this machine.
 * It must not change the user's own Deno. On other systems it does nothing. Not run on a Mac so far.
 *
 * @module
 */
import { join } from "@std/path";
import { digestBytes } from "../base/digest.ts";
import { writeFileAtomic } from "../base/durable.ts";
import { exists } from "../base/layout.ts";
import { run } from "../base/process.ts";
import { readMacSignature } from "./mac_signature.ts";

/** Without it macOS lets a program make no VMs. */
export const HYPERVISOR = "com.apple.security.hypervisor";

/** VMs, a library that Apple did not sign, and the JIT that Deno is. */
export const ENTITLEMENTS = [
  HYPERVISOR,
  "com.apple.security.cs.disable-library-validation",
  "com.apple.security.cs.allow-jit",
] as const;

/** The entitlements as codesign reads them. */
export function entitlementsPlist(): string {
  const keys = ENTITLEMENTS.map((name) => `  <key>${name}</key>\n  <true/>\n`).join("");
  return `<?xml version="1.0" encoding="UTF-8"?>\n<plist version="1.0">\n<dict>\n${keys}</dict>\n</plist>\n`;
}

/** The words for codesign that give a program the entitlements, signed by nobody in particular. */
function codesignArgs(plist: string, program: string): string[] {
  return ["--sign", "-", "--force", "--entitlements", plist, program];
}

/** Signs a program in place; the entitlements are left beside it as a file. @throws GatewayError `process-failed`. */
export async function signProgram(program: string, plist: string): Promise<void> {
  await writeFileAtomic(plist, entitlementsPlist(), 0o644);
  await run("codesign", {
    args: codesignArgs(plist, program),
    timeoutMs: 120_000,
    what: "Cannot sign the program that becomes the VM",
    fix: "install Apple's command line tools: xcode-select --install",
  });
}

/**
 * The program to start the VMM's process with: itself, or where macOS would not let it make VMs its signed copy below the
 * cache folder.
 *
 * @throws GatewayError `process-failed` with what codesign said.
 */
export async function ensureSignedRuntime(
  program: string,
  cacheDir: string,
  os: string = Deno.build.os,
): Promise<string> {
  if (os !== "darwin") return program;
  if ((await readMacSignature(program))?.entitlements.includes(HYPERVISOR)) return program;
  const { size, mtime } = await Deno.stat(program);
  const key = digestBytes([program, size, mtime?.getTime(), ENTITLEMENTS].join("\0")).slice(0, 16);
  const dir = join(cacheDir, "runtime");
  const signed = join(dir, `gateway-vmm-${key}`);
  if (await exists(signed)) return signed;
  await Deno.mkdir(dir, { recursive: true });
  const [plist, copy] = [join(dir, `${key}.plist`), `${signed}.tmp`];
  await Deno.copyFile(program, copy);
  await signProgram(copy, plist);
  await Deno.rename(copy, signed);
  return signed;
}
