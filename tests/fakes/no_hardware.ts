/**
 * A host without hardware virtualization, wherever a test runs: QEMU emulates.
 *
 * @module
 */
import type { CandidateQuestion } from "../../vm/machine/accelerator.ts";

/** What such a host answers. */
export const WITHOUT_HARDWARE: CandidateQuestion = () =>
  Promise.resolve({ accelerator: "tcg", why: "emulation is what is tried", fix: "" });
