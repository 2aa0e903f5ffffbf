/**
 * Which VMM drives this start, and why. `auto` takes the first driver that can run here.
 * It must not start a VM beyond the drivers' own probe boots.
 *
 * @module
 */
import { GatewayError } from "../vm/error.ts";
import type { Span } from "../vm/event.ts";
import { ensureTools } from "../vm/host_tools.ts";
import { cacheDir } from "../vm/layout.ts";
import { which } from "../vm/process.ts";
import { QEMU_TOOL, QemuVmm } from "../vm/qemu.ts";
import { hostTscKHz } from "../vm/tsc.ts";
import type { Vmm, VmmCheck } from "../vm/vmm.ts";
import type { BootArtifacts } from "./artifacts.ts";

/** The driver and what it found out about this host. */
export interface ChosenVmm {
  readonly vmm: Vmm;
  readonly check: VmmCheck;
  /** What the guest cannot find out by itself under TCG; null elsewhere. */
  readonly tscKHz: number | null;
}

/**
 * Chooses.
 *
 * @throws GatewayError `vmm-missing` when the wanted driver cannot run here, `tool-missing` when QEMU is not
 * installed and may not be.
 */
export async function chooseVmm(
  artifacts: Pick<BootArtifacts, "kernel" | "tsc" | "ramshim">,
  options: {
    readonly span: Span;
    readonly signal: AbortSignal;
    readonly assumeYes: boolean;
    readonly accelerator?: "tcg" | "kvm";
  },
): Promise<ChosenVmm> {
  if (which(QEMU_TOOL.program) === undefined) await ensureTools([QEMU_TOOL], options);
  const vmm = new QemuVmm({
    kernelPath: artifacts.kernel.files.vmlinux.path,
    cacheDir: cacheDir(),
    ramshim: artifacts.ramshim.files["ramshim.so"].path,
    accelerator: options.accelerator,
  });
  const check = await vmm.check(options);
  if (!check.usable) {
    throw new GatewayError({
      code: "vmm-missing",
      what: "Cannot run a VM on this host",
      why: check.why,
      fix: check.fix,
    });
  }
  options.span.log(`${check.description}: ${check.why}`);
  const tscKHz = check.accelerator === "tcg"
    ? await hostTscKHz(artifacts.tsc.files.tsckhz.path, cacheDir(), options.signal)
    : undefined;
  return { vmm, check, tscKHz: tscKHz ?? null };
}
