import { assert, assertEquals } from "@std/assert";
import { parseVmSpec, type VmSpec } from "../machine/spec.ts";
import { qemuArgv } from "./argv.ts";

const spec: VmSpec = {
  schemaVersion: 1,
  name: "default",
  cpus: 2,
  memoryMiB: 4096,
  kernel: { path: "/a/vmlinux", format: "elf", cmdline: "console=ttyS0 quiet" },
  ram: null,
  incoming: null,
  disks: [
    { serial: "root", path: "/a/root.erofs", format: "raw", readonly: true },
    { serial: "state", path: "/i/st,ate.img", format: "raw", readonly: false },
    { serial: "payload", path: "/i/payload.tar", format: "raw", readonly: true },
  ],
  net: { socketPath: "/r/net", transport: "stream", mac: "5a:94:ef:e4:0c:ee" },
  consolePorts: [{ name: "gw.control", socketPath: "/r/control" }],
  consoleLogPath: "/i/console.log",
  runtimeDir: "/r",
  vmmLogPath: "/i/vmm.log",
};

Deno.test("qemuArgv() gives exactly this for a cluster under TCG", () => {
  const argv = qemuArgv(spec, { program: "qemu", accelerator: "tcg" });
  const lines = argv.join(" ").replaceAll(/ (?=-\w)/g, "\n").split("\n");
  assertEquals(lines, [
    "-name gateway-default",
    "-nodefaults",
    "-no-user-config",
    "-display none",
    "-no-reboot",
    "-sandbox on,obsolete=deny,elevateprivileges=deny,resourcecontrol=deny,spawn=deny",
    "-machine microvm,acpi=off,pic=on,pit=on,rtc=on,isa-serial=on,auto-kernel-cmdline=on,usb=off,graphics=off,mem-merge=off",
    "-accel tcg,thread=multi",
    "-cpu Nehalem,+aes,+pclmulqdq,+rdrand",
    "-smp 2",
    "-m 4096M",
    "-kernel /a/vmlinux",
    "-append console=ttyS0 quiet",
    "-chardev socket,id=qmp,path=/r/qmp,server=on,wait=off",
    "-mon chardev=qmp,mode=control",
    "-chardev file,id=console,path=/i/console.log,append=on",
    "-serial chardev:console",
    "-blockdev driver=raw,node-name=root,read-only=on,file.driver=file,file.filename=/a/root.erofs,file.locking=off",
    "-device virtio-blk-device,drive=root,serial=root,bus=virtio-mmio-bus.7",
    "-blockdev driver=raw,node-name=state,read-only=off,discard=unmap,detect-zeroes=unmap,file.driver=file,file.filename=/i/st,,ate.img",
    "-device virtio-blk-device,drive=state,serial=state,bus=virtio-mmio-bus.6",
    "-blockdev driver=raw,node-name=payload,read-only=on,file.driver=file,file.filename=/i/payload.tar,file.locking=off",
    "-device virtio-blk-device,drive=payload,serial=payload,bus=virtio-mmio-bus.5",
    "-netdev stream,id=net0,server=off,addr.type=unix,addr.path=/r/net",
    "-device virtio-net-device,netdev=net0,mac=5a:94:ef:e4:0c:ee,bus=virtio-mmio-bus.4",
    "-device virtio-rng-device,bus=virtio-mmio-bus.3",
    "-device virtio-serial-device,id=ports,max_ports=8,bus=virtio-mmio-bus.2",
    "-chardev socket,id=port0,path=/r/control,server=on,wait=off",
    "-device virtserialport,bus=ports.0,nr=1,chardev=port0,name=gw.control",
  ]);
});

const armSpec: VmSpec = {
  ...spec,
  kernel: { path: "/a/Image", format: "image-arm64", cmdline: "console=ttyAMA0 quiet" },
};

Deno.test("qemuArgv() gives exactly this for an arm64 cluster under TCG", () => {
  const tcg = { program: "qemu", accelerator: "tcg" } as const;
  const [argv, other] = [qemuArgv(armSpec, tcg), qemuArgv(spec, tcg)];
  const changed = argv.filter((word, at) => word !== other[at]);
  assertEquals(argv.length, other.length);
  assertEquals(changed, [
    "virt,gic-version=max,usb=off,graphics=off,mem-merge=off",
    "neoverse-n1",
    "/a/Image",
    "console=ttyAMA0 quiet",
    "virtio-blk-device,drive=root,serial=root,bus=virtio-mmio-bus.0",
    "virtio-blk-device,drive=state,serial=state,bus=virtio-mmio-bus.1",
    "virtio-blk-device,drive=payload,serial=payload,bus=virtio-mmio-bus.2",
    "virtio-net-device,netdev=net0,mac=5a:94:ef:e4:0c:ee,bus=virtio-mmio-bus.3",
    "virtio-rng-device,bus=virtio-mmio-bus.4",
    "virtio-serial-device,id=ports,max_ports=8,bus=virtio-mmio-bus.5",
  ]);
});

Deno.test("qemuArgv() names an arm64 guest's memory as its machine does", () => {
  const argv = qemuArgv({ ...armSpec, ram: { layers: [] } }, {
    program: "qemu",
    accelerator: "kvm",
  });
  assert(argv[argv.indexOf("-machine") + 1]!.endsWith(",memory-backend=mach-virt.ram"));
  assert(argv[argv.indexOf("-object") + 1]!.startsWith("memory-backend-file,id=mach-virt.ram,"));
  assertEquals(argv[argv.indexOf("-cpu") + 1], "host");
});

Deno.test("qemuArgv() has no network device when the spec has none, and the host's CPU with KVM", () => {
  const argv = qemuArgv({ ...spec, net: null }, { program: "qemu", accelerator: "kvm" });
  assert(!argv.some((arg) => arg.includes("net0")));
  assertEquals(argv[argv.indexOf("-cpu") + 1], "host");
});

Deno.test("qemuArgv() gives the memory the one name that device state loads into, and lets it be forked", () => {
  const ram = { layers: ["/i/ram-1.layer"] };
  const incoming = { devicesPath: "/i/suspend.bin" };
  const argv = qemuArgv({ ...spec, ram, incoming }, { program: "qemu", accelerator: "tcg" });
  assert(argv.includes(
    "memory-backend-file,id=microvm.ram,size=4096M,mem-path=/r/ram,share=on",
  ));
  assert(argv[argv.indexOf("-machine") + 1]!.endsWith(",mem-merge=off,memory-backend=microvm.ram"));
  assertEquals(argv[argv.indexOf("-incoming") + 1], "defer");
  assert(argv[argv.indexOf("-sandbox") + 1]!.endsWith(",spawn=allow"));
});

Deno.test("parseVmSpec() reads back what was written", () => {
  assertEquals(parseVmSpec(JSON.stringify(spec), "vm.json"), spec);
});
