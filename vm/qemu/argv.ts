/**
 * VmSpec to QEMU's argument list: pure, so that golden tests can hold it.
 * It must not choose anything; what is not in the spec or the machine is not there.
 *
 * @module
 */
import { join } from "@std/path";
import type { Arch } from "../base/arch.ts";
import { socketPath } from "../base/layout.ts";
import { archOf, type DiskSpec, type NetSpec, type VmSpec } from "../machine/spec.ts";

/** How this host runs QEMU; found by the probe, not by the plan. */
export interface QemuMachine {
  /** The program. */
  readonly program: string;
  readonly accelerator: "kvm" | "hvf" | "tcg";
}

/** Where the driver's own socket is. */
export function qmpPath(spec: VmSpec): string {
  return socketPath(spec.runtimeDir, "qmp");
}

// Saving memory forks QEMU (vm/qemu/ramshim), which forbids exec by a filter of its own instead.
const SANDBOX = "on,obsolete=deny,elevateprivileges=deny,resourcecontrol=deny";

// The kernel would merge equal pages of all VMs: a side channel, and vm/qemu/ramshim would take such a page for unchanged. Not
// a part of the machine that saved states name, since the guest does not see it.
const UNMERGED = "mem-merge=off";

/** The machine for a processor, in QEMU's words. */
interface MachineWords {
  readonly machine: string;
  /** The processor that is emulated; hardware has its own. */
  readonly tcg: string;
  /** What the machine calls its memory: device state is only loaded into memory of the same name. */
  readonly ram: string;
  /** The virtio-mmio slots in the order in which the guest's kernel meets them. */
  readonly slots: readonly number[];
}

const MACHINES: Readonly<Record<Arch, MachineWords>> = {
  amd64: {
    // Under TCG the timer needs the PIT and the PIC, and with ACPI the kernel hangs while it calibrates the
    // TSC in most starts (FACTS: 7 of 10); with ACPI off 10 of 10 came up.
    machine:
      "microvm,acpi=off,pic=on,pit=on,rtc=on,isa-serial=on,auto-kernel-cmdline=on,usb=off,graphics=off",
    // Go's wide vector code is slow to emulate: Nehalem with AES was measured at 51 s against 74 s for `max`.
    tcg: "Nehalem,+aes,+pclmulqdq,+rdrand",
    ram: "microvm.ram",
    slots: [7, 6, 5, 4, 3, 2, 1, 0],
  },
  arm64: {
    machine: "virt,gic-version=max,usb=off,graphics=off",
    // Has atomic operations in one instruction, and neither wide vectors nor signed pointers, which are slow to emulate.
    tcg: "neoverse-n1",
    ram: "mach-virt.ram",
    slots: [0, 1, 2, 3, 4, 5, 6, 7],
  },
};

const cpuOf = ({ tcg }: MachineWords, accelerator: QemuMachine["accelerator"]) =>
  accelerator === "tcg" ? tcg : "host";

/** The machine and the processor that every guest of an accelerator gets, in QEMU's words. */
export function machineType(accelerator: QemuMachine["accelerator"], arch: Arch): string {
  return `${MACHINES[arch].machine} ${cpuOf(MACHINES[arch], accelerator)}`;
}

/** QEMU's arguments for a spec. Explicit slots fix the order in which the guest meets the devices: vda stays vda. */
export function qemuArgv(spec: VmSpec, machine: QemuMachine): string[] {
  const words = MACHINES[archOf(spec)];
  const slots = words.slots.values();
  const bus = () => `bus=virtio-mmio-bus.${slots.next().value}`;
  // No plan for QEMU has TSI (bootstrap/plan/options.ts).
  const card = spec.net?.transport === "tsi" ? null : spec.net;
  return [
    ["-name", `gateway-${spec.name}`],
    ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"],
    ["-sandbox", spec.ram ? `${SANDBOX},spawn=allow` : `${SANDBOX},spawn=deny`],
    [
      "-machine",
      `${words.machine},${UNMERGED}${spec.ram ? `,memory-backend=${words.ram}` : ""}`,
    ],
    ["-accel", machine.accelerator === "tcg" ? "tcg,thread=multi" : machine.accelerator],
    ["-cpu", cpuOf(words, machine.accelerator)],
    ["-smp", String(spec.cpus)],
    memoryArgs(spec, words),
    spec.incoming ? ["-incoming", "defer"] : [],
    ["-kernel", spec.kernel.path, "-append", spec.kernel.cmdline],
    ["-chardev", `socket,id=qmp,path=${escape(qmpPath(spec))},server=on,wait=off`],
    ["-mon", "chardev=qmp,mode=control"],
    ["-chardev", `file,id=console,path=${escape(spec.consoleLogPath)},append=on`],
    ["-serial", "chardev:console"],
    ...spec.disks.map((disk) => diskArgs(disk, bus())),
    card ? netArgs(card, bus()) : [],
    ["-device", `virtio-rng-device,${bus()}`],
    portArgs(spec, bus()),
  ].flat();
}

/** The file that QEMU takes for the guest's memory and vm/qemu/ramshim replaces by layers. It stays empty. */
export function ramPlaceholder(spec: Pick<VmSpec, "runtimeDir">): string {
  return join(spec.runtimeDir, "ram");
}

function memoryArgs(spec: VmSpec, { ram }: MachineWords): string[] {
  const size = ["-m", `${spec.memoryMiB}M`];
  if (!spec.ram) return size;
  const file = `mem-path=${escape(ramPlaceholder(spec))}`;
  const backend = `memory-backend-file,id=${ram},size=${spec.memoryMiB}M,${file},share=on`;
  return [...size, "-object", backend];
}

function diskArgs(disk: DiskSpec, bus: string): string[] {
  const id = disk.serial;
  const file = [
    `driver=${disk.format}`,
    `node-name=${id}`,
    `read-only=${disk.readonly ? "on" : "off"}`,
    ...(disk.readonly ? [] : ["discard=unmap", "detect-zeroes=unmap"]),
    "file.driver=file",
    `file.filename=${escape(disk.path)}`,
    // A shared read-only image needs no lock, and the lock would stop a second instance's writer only.
    ...(disk.readonly ? ["file.locking=off"] : []),
  ];
  return [
    "-blockdev",
    file.join(","),
    "-device",
    `virtio-blk-device,drive=${id},serial=${id},${bus}`,
  ];
}

function netArgs(net: NetSpec, bus: string): string[] {
  return [
    "-netdev",
    `stream,id=net0,server=off,addr.type=unix,addr.path=${escape(net.socketPath)}`,
    "-device",
    `virtio-net-device,netdev=net0,mac=${net.mac},${bus}`,
  ];
}

function portArgs(spec: VmSpec, bus: string): string[] {
  return [
    "-device",
    `virtio-serial-device,id=ports,max_ports=8,${bus}`,
    ...spec.consolePorts.flatMap((port, index) => [
      "-chardev",
      `socket,id=port${index},path=${escape(port.socketPath)},server=on,wait=off`,
      "-device",
      `virtserialport,bus=ports.0,nr=${index + 1},chardev=port${index},name=${port.name}`,
    ]),
  ];
}

/** A comma ends a QEMU option's value unless it is doubled. */
function escape(value: string): string {
  return value.replaceAll(",", ",,");
}
