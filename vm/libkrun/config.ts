/**
 * VmSpec to calls of libkrun, in one order, so that a golden test can hold it.
 * It must not choose anything; what is not in the spec is turned off by name.
 *
 * @module
 */
import { firmwareKernelPath } from "../../ffi/firmware.ts";
import { type KernelOptions, type KrunContext, macBytes } from "../../ffi/krun.ts";
import type { KrunSymbolName } from "../../ffi/symbols.ts";
import { GatewayError } from "../base/error.ts";
import type { VmSpec } from "../machine/spec.ts";

/** What a VM cannot do without: disks and, in every other build of ours, a network. */
export const REQUIRED_FEATURES = ["net", "blk"] as const;

/** Functions that every VM of ours needs; looked for before anything is made. */
export const REQUIRED_SYMBOLS: readonly KrunSymbolName[] = [
  ...[
    "krun_set_vm_config",
    "krun_set_kernel",
    "krun_add_disk3",
    "krun_set_console_output",
  ] as const,
  ...["krun_disable_implicit_vsock", "krun_add_virtio_console_multiport"] as const,
  ...["krun_add_console_port_inout", "krun_add_net_unixstream"] as const,
];

/** A console port and the descriptor of its host's end. */
export interface PortDescriptor {
  readonly name: string;
  /** Both ways; libkrun duplicates it. */
  readonly fd: number;
}

/** The kernel in a format of libkrun's; the one inside libkrunfw becomes a file. @throws KrunError. */
function kernelFile({ path, format }: VmSpec["kernel"]): Pick<KernelOptions, "path" | "format"> {
  if (format === "libkrunfw") return { path: firmwareKernelPath(path), format: "elf" };
  return { path, format };
}

/**
 * Describes the VM. Disks come first: the guest meets them in the order of the calls and its root is /dev/vda.
 *
 * @throws GatewayError `not-supported` for memory files and device state; KrunError.
 */
export function configureVm(
  krun: KrunContext,
  spec: VmSpec,
  ports: readonly PortDescriptor[],
): void {
  if (spec.ram || spec.incoming) {
    throw new GatewayError({
      code: "not-supported",
      what: `Cannot start "${spec.name}" with libkrun`,
      why: "libkrun keeps no memory or device state in files",
      fix: "start it from its disk with `gateway up --cold`, or pass --vmm qemu",
    });
  }
  const { kernel, net } = spec;
  krun.setVmConfig(spec.cpus, spec.memoryMiB);
  krun.setKernel({ ...kernelFile(kernel), cmdline: kernel.cmdline });
  krun.disableImplicitVsock();
  for (const { serial, path, format, readonly } of spec.disks) {
    // A guest that flushes means it: the state disk holds a database.
    const sync = readonly ? "none" : "full";
    krun.addDisk({ id: serial, path, format, readOnly: readonly, sync });
  }
  if (net?.transport === "tsi") krun.addVsock(["inet"]);
  else if (net) {
    // No offloads: the guest then sends whole frames with their checksums, which is what gvproxy expects.
    const card = { path: net.socketPath, mac: macBytes(net.mac) };
    if (net.transport === "unixgram") krun.addNetUnixDatagram(card);
    else krun.addNetUnixStream(card);
  }
  // The implicit console stays and is the kernel's hvc0; the named ports are on a second device.
  krun.setConsoleOutput(spec.consoleLogPath);
  if (ports.length === 0) return;
  const device = krun.addConsole();
  for (const { name, fd } of ports) krun.addConsolePort(device, name, fd, fd);
}
