/**
 * VmSpec: everything a driver needs to start one VM, with no default left to apply.
 * It must stay plain JSON: it is written to vm.json, so that any boot can be replayed by hand.
 *
 * @module
 */
import * as v from "valibot";
import type { Arch } from "../base/arch.ts";
import { parseJson } from "../base/json_file.ts";

const Disk = v.strictObject({
  /** The virtio-blk serial, by which the guest's init finds the disk; unique. */
  serial: v.picklist(["root", "state", "payload"]),
  path: v.string(),
  format: v.picklist(["raw", "qcow2"]),
  readonly: v.boolean(),
});

const Card = v.strictObject({
  /** The unix socket gvproxy listens on. */
  socketPath: v.string(),
  /** `stream` for QEMU and libkrun on Linux, `unixgram` for libkrun on macOS. */
  transport: v.picklist(["stream", "unixgram"]),
  mac: v.string(),
});

/** No card: libkrunfw's kernel hands the guest's socket calls to this host (TSI). libkrun only. */
const Tsi = v.strictObject({ transport: v.literal("tsi") });

const ConsolePort = v.strictObject({
  /** The name the guest finds under /sys/class/virtio-ports. */
  name: v.picklist(["gw.control", "gw.stdio"]),
  /** The VMM listens here; the host's end connects. */
  socketPath: v.string(),
});

const Spec = v.strictObject({
  schemaVersion: v.literal(1),
  name: v.string(),
  cpus: v.number(),
  memoryMiB: v.number(),
  kernel: v.strictObject({
    path: v.string(),
    /** "libkrunfw": `path` is that library, and the kernel is the one inside. */
    format: v.picklist(["elf", "image-arm64", "libkrunfw"]),
    cmdline: v.string(),
  }),
  /**
   * Memory made of layer files (vm/qemu/ram_layer.ts), bottom first, none for a boot; it can be saved. Null for memory that
   * is gone with the VMM.
   */
  ram: v.nullable(v.strictObject({ layers: v.array(v.string()) })),
  /** Device state to go on from instead of booting; its memory is in the layers. */
  incoming: v.nullable(v.strictObject({ devicesPath: v.string() })),
  /** In the guest's order: vda, vdb, vdc. */
  disks: v.array(Disk),
  net: v.nullable(v.variant("transport", [Card, Tsi])),
  consolePorts: v.array(ConsolePort),
  /** The kernel's console is appended here. */
  consoleLogPath: v.string(),
  /** 0700, short: the driver puts its own sockets here. */
  runtimeDir: v.string(),
  /** What the VMM itself prints. */
  vmmLogPath: v.string(),
});

/** One VM, complete. All paths absolute; sizes in MiB. */
export type VmSpec = Readonly<v.InferOutput<typeof Spec>>;
/** One disk of a {@linkcode VmSpec}. */
export type DiskSpec = Readonly<v.InferOutput<typeof Disk>>;
/** A VM's network card. */
export type NetSpec = Readonly<v.InferOutput<typeof Card>>;

/** The guest's processor. */
export function archOf({ kernel }: Pick<VmSpec, "kernel">): Arch {
  return kernel.format === "image-arm64" ? "arm64" : "amd64";
}

/** Parses vm.json. @throws GatewayError `instance-schema` naming the first wrong field. */
export function parseVmSpec(text: string, path: string): VmSpec {
  return parseJson(Spec, text, path);
}
