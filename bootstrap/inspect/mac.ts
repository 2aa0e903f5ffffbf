/**
 * What keeps a Mac from making VMs, judged by facts that are gathered apart, so that the judgement can be tried anywhere.
 * It must not change the Mac. It has not been run on a Mac yet.
 *
 * @module
 */
import { run } from "../../vm/base/process.ts";
import { readMacSignature } from "../../vm/libkrun/mac_signature.ts";
import { HYPERVISOR } from "../../vm/libkrun/signed_runtime.ts";

/** What is known of a Mac. */
export interface MacFacts {
  /** The version of macOS, such as "14.5"; "" where sw_vers does not report one. */
  readonly version: string;
  /** Whether the processor is Apple's. */
  readonly appleSilicon: boolean;
  /** Whether the running program is made for Intel's processors, which Rosetta translates. */
  readonly translated: boolean;
  /** Whether macOS itself runs in a VM. */
  readonly inVm: boolean;
  /** Whether the kernel offers Hypervisor.framework. */
  readonly hypervisor: boolean;
  /** What the running program's signature grants; undefined where it has none that can be read. */
  readonly entitlements: readonly string[] | undefined;
  /** Whether it is a released file, whose runtime has to be signed; the sources sign a copy for themselves. */
  readonly released: boolean;
}

/** The oldest macOS whose Hypervisor.framework libkrun uses. */
const OLDEST = 14;

/** Looks at this Mac. */
export async function macFacts(): Promise<MacFacts> {
  const say = async (program: string, ...args: string[]) => {
    const { code, stdout } = await run(program, { args, check: false, timeoutMs: 10_000 });
    return code === 0 ? stdout.trim() : "";
  };
  const [version, arm, vm, hypervisor, signature] = await Promise.all([
    say("sw_vers", "-productVersion"),
    say("sysctl", "-n", "hw.optional.arm64"),
    say("sysctl", "-n", "kern.hv_vmm_present"),
    say("sysctl", "-n", "kern.hv_support"),
    readMacSignature(Deno.execPath()),
  ]);
  return {
    version,
    appleSilicon: arm === "1",
    translated: Deno.build.arch !== "aarch64",
    inVm: vm === "1",
    hypervisor: hypervisor === "1",
    entitlements: signature?.entitlements,
    released: Deno.env.get("GATEWAY_FILE") !== undefined,
  };
}

/** What a report says of a Mac. Pure. */
export function macText({ version, inVm, entitlements }: MacFacts): string {
  const signature = entitlements === undefined
    ? "no signature that can be read"
    : `signed for ${entitlements.join(", ") || "nothing"}`;
  return `macOS ${version || "of an unknown version"}${inVm ? " in a VM" : ""}, ${signature}`;
}

/** Why VMs cannot be made on such a Mac and what to do; undefined where nothing is in the way. Pure. */
export function macFault(
  { version, appleSilicon, translated, inVm, hypervisor, entitlements, released }: MacFacts,
): { readonly found: string; readonly fix: string } | undefined {
  if (!appleSilicon) {
    return {
      found: "this Mac has an Intel processor",
      fix: "use a Mac with Apple silicon, or a Linux host",
    };
  }
  if (translated) {
    return {
      found: "this program is made for Intel's processors and runs by Rosetta",
      fix: "use the file for darwin-arm64, or a Deno for Apple silicon",
    };
  }
  if (Number.parseInt(version) < OLDEST) {
    return {
      found: `this is macOS ${version}`,
      fix: `update it to macOS ${OLDEST} or later`,
    };
  }
  if (!hypervisor) {
    return inVm
      ? {
        found: "this macOS runs in a VM, which gives it no virtualization of its own",
        fix: "run gateway on the Mac itself",
      }
      : {
        found: "the kernel offers no Hypervisor.framework (kern.hv_support is 0)",
        fix: "see whether a profile of the organization's forbids it",
      };
  }
  if (released && !entitlements?.includes(HYPERVISOR)) {
    return {
      found: `the program has lost the entitlement ${HYPERVISOR}, as when it is signed again`,
      fix: "get the file again, and remove its folder below ~/.cache/gateway/file",
    };
  }
}
