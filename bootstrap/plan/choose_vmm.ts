/**
 * Which VMM drives this start, and why. `auto` takes the first driver that can run here.
 * It must not start a VM beyond the drivers' own probe boots.
 *
 * @module
 */
import { kernelFile } from "../../kernel/kernel.ts";
import { type Arch, guestArch, hostArch } from "../../vm/base/arch.ts";
import { describeError, GatewayError } from "../../vm/base/error.ts";
import type { Span } from "../../vm/base/event.ts";
import { ensureTools } from "../../vm/base/host_tools.ts";
import { cacheDir } from "../../vm/base/layout.ts";
import { which } from "../../vm/base/process.ts";
import { BUNDLED, VMM_BUNDLE_FILE } from "../../vm/base/source.ts";
import { LIBKRUN_FILE, libkrunRecipe } from "../../vm/libkrun/build.ts";
import { LibkrunVmm } from "../../vm/libkrun/driver.ts";
import { unusableLibkrun } from "../../vm/libkrun/probe.ts";
import { vmmProcessRecipe } from "../../vm/libkrun/vmm_bundle.ts";
import type { CandidateQuestion } from "../../vm/machine/accelerator.ts";
import type { StartOptions, Vmm, VmmCheck, VmmChoice } from "../../vm/machine/vmm.ts";
import { qemuTool, QemuVmm } from "../../vm/qemu/driver.ts";
import { hostTscKHz } from "../../vm/qemu/tsc.ts";
import { ArtifactStore } from "../../vm/store/artifact.ts";
import type { BootArtifacts } from "../artifacts/ensure.ts";
import { vmmCommand } from "../run/self.ts";

/** The driver and what it found out about this host. */
export interface ChosenVmm {
  readonly vmm: Vmm;
  readonly check: VmmCheck;
  /** What the guest cannot find out by itself under TCG; null elsewhere. */
  readonly tscKHz: number | null;
}

/** What a choice depends on. */
export interface ChooseOptions {
  readonly span: Span;
  readonly signal: AbortSignal;
  readonly assumeYes: boolean;
  /** Its `vmm` is the user's; auto without it, and for a guest of this host's processor. */
  readonly config?: { readonly vmm: VmmChoice; readonly arch?: Arch };
  /** `--libkrun`. */
  readonly libkrun?: string;
  /** By default the host is looked at. */
  readonly candidate?: CandidateQuestion;
}

/**
 * Chooses: what was asked for, else libkrun where a probe boot with it works, else QEMU.
 *
 * @throws GatewayError `vmm-missing` when the wanted driver cannot run here, `tool-missing` when QEMU is not
 * installed and may not be.
 */
export async function chooseVmm(
  artifacts: Pick<BootArtifacts, "kernel" | "tsc" | "ramshim">,
  options: ChooseOptions,
): Promise<ChosenVmm> {
  const wanted = options.config?.vmm ?? "auto";
  const kernelPath = kernelFile(artifacts.kernel).path;
  const arch = guestArch(options.config);
  let notLibkrun = "";
  // libkrun has hardware virtualization only (bootstrap/plan/options.ts refuses it for another processor).
  if (wanted !== "qemu" && arch === hostArch()) {
    const vmm = await libkrunDriver(kernelPath, options.libkrun, options.candidate);
    const check = await vmm.check(options);
    if (check.usable) return told(options.span, { vmm, check, tscKHz: null });
    if (wanted === "libkrun") throw unusableLibkrun(check.why, check.fix);
    notLibkrun = `; not libkrun: ${check.why}`;
  }
  const tool = qemuTool(arch);
  if (which(tool.program) === undefined) await ensureTools([tool], options);
  const vmm = new QemuVmm({
    arch,
    kernelPath,
    cacheDir: cacheDir(),
    ramshim: artifacts.ramshim?.files["ramshim.so"]?.path,
    candidate: options.candidate,
  });
  const found = await vmm.check(options);
  if (!found.usable) {
    throw new GatewayError({
      code: "vmm-missing",
      what: "Cannot run a VM on this host",
      why: found.why,
      fix: found.fix,
    });
  }
  const check = { ...found, why: found.why + notLibkrun };
  const tscKHz = artifacts.tsc && check.accelerator === "tcg" && arch === "amd64"
    ? await hostTscKHz(artifacts.tsc.files.tsckhz!.path, cacheDir(), options.signal)
    : undefined;
  return told(options.span, { vmm, check, tscKHz: tscKHz ?? null });
}

function told(span: Span, chosen: ChosenVmm): ChosenVmm {
  span.log(`${chosen.check.description}: ${chosen.check.why}`);
  return chosen;
}

/** The libkrun driver with our own build, if there is one, as its last choice of a library. */
export async function libkrunDriver(
  kernelPath: string,
  flag?: string,
  candidate?: CandidateQuestion,
): Promise<LibkrunVmm> {
  const artifact = await new ArtifactStore().lookup(await libkrunRecipe(Deno.build.arch))
    .catch(() => undefined);
  return new LibkrunVmm({
    kernelPath,
    cacheDir: cacheDir(),
    child: async (plan, options) => vmmCommand(plan, await vmmBundle(options)),
    flag,
    artifact: artifact?.files[LIBKRUN_FILE]?.path,
    candidate,
  });
}

/** A checkout's bundle of the VMM's process, made when its sources changed; undefined where it is not needed. */
async function vmmBundle({ span, signal }: StartOptions): Promise<string | undefined> {
  if (BUNDLED || Deno.build.standalone) return undefined;
  try {
    const recipe = await vmmProcessRecipe();
    const made = await new ArtifactStore().ensure(recipe, { span, signal, assumeYes: false });
    return made.files[VMM_BUNDLE_FILE]!.path;
  } catch (error) {
    if (signal.aborted) throw error;
    // The sources do the same and need a little longer.
    span.warn(`the VMM's process is run from its sources: ${describeError(error)}`);
    return undefined;
  }
}
