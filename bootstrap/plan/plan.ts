/**
 * This room makes the choices: options checked against the host and merged with what the instance remembers, the VMM,
 * and the machine's plan. It starts nothing but probe boots. Read options.ts next, then choose_vmm.ts.
 *
 * planVm: the one place where choices become a VmSpec. Pure, so that golden tests can hold it.
 * It must not look at the host; what it needs to know comes in.
 *
 * @module
 */
import { join } from "@std/path";
import { GUEST_MAC } from "../../net/guest.ts";
import { INIT } from "../../rootfs/contract.ts";
import type { Arch } from "../../vm/base/arch.ts";
import { socketPath } from "../../vm/base/layout.ts";
import type { DiskSpec, VmSpec } from "../../vm/machine/spec.ts";

/** Everything a plan depends on. */
export interface PlanInput {
  readonly name: string;
  readonly mode: "cluster" | "exec";
  readonly cpus: number;
  readonly memoryMiB: number;
  readonly vmm: "qemu" | "libkrun";
  readonly arch: Arch;
  readonly os: "linux" | "darwin";
  readonly kernelPath: string;
  /** Of an amd64 kernel that is not ours; "elf" without it. */
  readonly kernelFormat?: "elf" | "libkrunfw";
  readonly rootImage: string;
  /** The instance's folder (or the one-shot VM's). */
  readonly dir: string;
  /** Short; sockets go here. */
  readonly runtimeDir: string;
  /** gvproxy's socket, null without a network. */
  readonly netSocket: string | null;
  /** Instead of a card: the guest's connections are made by this host (libkrun only). */
  readonly tsi?: boolean;
  /** The file of the state disk that the guest writes; null for a VM without one. */
  readonly stateDisk: { readonly path: string; readonly format: DiskSpec["format"] } | null;
  /** Whether the guest's memory is made of layers, so that it can be saved. */
  readonly ramLayers: boolean;
  /** Under TCG: no hardware virtualization, the CPU is a program. */
  readonly emulated: boolean;
  /** The counter's frequency where the guest cannot find it out (TCG), else null. */
  readonly tscKHz: number | null;
}

/** How a VMM's network card speaks to gvproxy: libkrun on a Mac has datagrams only. */
export function netTransport(
  vmm: PlanInput["vmm"],
  os: string = Deno.build.os,
): "stream" | "unixgram" {
  return vmm === "libkrun" && os === "darwin" ? "unixgram" : "stream";
}

/** The spec of a VM. */
export function planVm(input: PlanInput): VmSpec {
  const disk = (
    serial: DiskSpec["serial"],
    path: string,
    readonly: boolean,
    format: DiskSpec["format"] = "raw",
  ): DiskSpec => ({ serial, path, format, readonly });
  const cluster = input.mode === "cluster";
  const runtimeDir = vmRuntimeDir(input);
  const disks = [
    disk("root", input.rootImage, true),
    ...(cluster && input.stateDisk
      ? [disk("state", input.stateDisk.path, false, input.stateDisk.format)]
      : []),
    disk("payload", join(input.dir, "payload.tar"), true),
  ];
  const names = cluster ? ["gw.control"] as const : ["gw.control", "gw.stdio"] as const;
  return {
    schemaVersion: 1,
    name: input.name,
    cpus: input.cpus,
    memoryMiB: input.memoryMiB,
    kernel: {
      path: input.kernelPath,
      format: input.arch === "arm64" ? "image-arm64" : input.kernelFormat ?? "elf",
      cmdline: kernelCmdline(input),
    },
    ram: input.ramLayers ? { layers: [] } : null,
    incoming: null,
    disks,
    net: netOf(input),
    consolePorts: names.map((name) => ({
      name,
      socketPath: socketPath(runtimeDir, name.slice(3)),
    })),
    consoleLogPath: join(input.dir, "console.log"),
    runtimeDir,
    vmmLogPath: join(input.dir, "vmm.log"),
  };
}

/** QEMU is confined: it may make sockets in a folder of its own, without those of gvproxy, the supervisor and ssh. */
function vmRuntimeDir({ vmm, runtimeDir }: PlanInput): string {
  return vmm === "qemu" ? join(runtimeDir, "vm") : runtimeDir;
}

function netOf({ tsi, netSocket, vmm, os }: PlanInput): VmSpec["net"] {
  if (tsi) return { transport: "tsi" };
  if (netSocket === null) return null;
  return { socketPath: netSocket, transport: netTransport(vmm, os), mac: GUEST_MAC };
}

function kernelCmdline(input: PlanInput): string {
  const console = input.vmm === "libkrun" ? "hvc0" : input.arch === "arm64" ? "ttyAMA0" : "ttyS0";
  return [
    `console=${console}`,
    `ro root=/dev/vda rootfstype=erofs init=${INIT}`,
    // Without ACPI a reset is how the guest ends the VMM; a panic must end it too.
    // Not at once on libkrun: what is still on its way through the virtual console is lost with the reset (seen).
    `panic=${input.vmm === "libkrun" ? 1 : -1} reboot=t`,
    // The counter is steady on every host we run on; without this the kernel watches it with worse clocks.
    ...(input.arch === "amd64" ? ["tsc=reliable"] : []),
    ...(input.tscKHz === null ? [] : [`tsc_early_khz=${input.tscKHz}`]),
    // QEMU's local APIC timer counts nanoseconds; to measure that takes 0.2 s (kernel/patches/lapic_khz.patch).
    ...(input.arch === "amd64" && input.emulated ? ["lapic_khz=1000000"] : []),
    // An emulated CPU does not speculate, and page-table isolation made small system calls 17 times slower there.
    ...(input.emulated ? ["mitigations=off"] : []),
    // microvm has no ACPI tables and its timer works: both are looked for at the cost of 50 ms and an error line.
    ...(input.arch === "amd64" && input.vmm === "qemu" ? ["acpi=off no_timer_check"] : []),
    "quiet loglevel=4",
    `gateway.mode=${input.mode}`,
  ].join(" ");
}
