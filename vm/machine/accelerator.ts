/**
 * Which hardware virtualization this host may have, before a probe boot shows it.
 *
 * @module
 */

/** Which accelerator to use and the observed fact behind it. */
export interface AcceleratorVerdict {
  readonly accelerator: "kvm" | "hvf" | "tcg";
  readonly why: string;
  readonly fix: string;
}

/** The bound of a probe boot. Hardware needs well under a second; a KVM that is emulated itself was seen to take 10 s. */
export const PROBE_TIMEOUT_MS = 20_000;

/** Answers which hardware virtualization may work on this host. */
export type CandidateQuestion = () => Promise<"kvm" | "hvf" | AcceleratorVerdict>;

/** Hardware virtualization that may work here, or why there is none. */
export async function candidateAccelerator(): Promise<"kvm" | "hvf" | AcceleratorVerdict> {
  if (Deno.build.os === "darwin") return "hvf";
  try {
    (await Deno.open("/dev/kvm", { read: true, write: true })).close();
    return "kvm";
  } catch (error) {
    const missing = error instanceof Deno.errors.NotFound;
    return {
      accelerator: "tcg",
      why: missing ? "there is no /dev/kvm on this host" : "/dev/kvm may not be opened by you",
      fix: missing
        ? "turn on virtualization in the firmware or the hypervisor, and load kvm_intel or kvm_amd"
        : "add yourself to the group kvm and log in again",
    };
  }
}
