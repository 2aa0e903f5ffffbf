/**
 * The plan of an instance's VM: what planVm needs of this host and of the instance.
 *
 * @module
 */
import { join } from "@std/path";
import { kernelFile } from "../../kernel/kernel.ts";
import { gvproxyNetSocket } from "../../net/gvproxy.ts";
import { guestArch } from "../../vm/base/arch.ts";
import type { InstancePaths } from "../../vm/base/layout.ts";
import { PLAIN_DISK } from "../../vm/instance/disk_chain.ts";
import type { InstanceConfig } from "../../vm/instance/instance.ts";
import type { VmSpec } from "../../vm/machine/spec.ts";
import type { BootArtifacts } from "../artifacts/ensure.ts";
import type { ChosenVmm } from "./choose_vmm.ts";
import { netTransport, planVm } from "./plan.ts";

/** Plans the VM, on the disk of an instance that is new. Pure but for what this host is. */
export function planFor(
  paths: InstancePaths,
  config: InstanceConfig,
  artifacts: BootArtifacts,
  chosen: ChosenVmm,
): VmSpec {
  const disk = PLAIN_DISK.head;
  return planVm({
    name: config.name,
    mode: "cluster",
    cpus: config.cpus,
    memoryMiB: config.memoryMiB,
    vmm: chosen.vmm.name,
    arch: guestArch(config),
    os: Deno.build.os === "darwin" ? "darwin" : "linux",
    kernelPath: kernelFile(artifacts.kernel).path,
    rootImage: artifacts.root.files["root.erofs"]!.path,
    dir: paths.dir,
    runtimeDir: paths.runtimeDir,
    netSocket: gvproxyNetSocket(paths.runtimeDir, netTransport(chosen.vmm.name)),
    stateDisk: { path: join(paths.dir, disk.name), format: disk.format },
    ramLayers: chosen.vmm.supports.snapshot,
    emulated: chosen.check.accelerator === "tcg",
    tscKHz: chosen.tscKHz,
  });
}
