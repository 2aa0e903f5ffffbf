/**
 * What a QEMU may use of this host, in the words of vm/qemu/ramshim, which keeps it to that (Landlock): its data and libraries,
 * the files of its guest, its sockets, and folders of its own for what it writes when the guest is saved.
 * It must not enforce anything.
 *
 * @module
 */
import { dirname, join } from "@std/path";
import { exists } from "../base/layout.ts";
import { chainFiles, readDiskChain } from "../instance/disk_chain.ts";
import type { VmSpec } from "../machine/spec.ts";

/** Where programs of a host keep data and libraries; the loader has opened most of them before QEMU is confined. */
const SYSTEM = [
  ...["/usr/share", "/usr/lib", "/usr/lib64", "/lib", "/lib64", "/nix/store", "/gnu/store"],
  ...["/etc/ld.so.cache", "/etc/localtime"],
];

/**
 * Facts of the host, and of the process itself. All of /proc, since a save reads its own memory's map in a process that
 * does not exist yet; of other processes Landlock hides what only their owner may see.
 */
const KERNEL = ["/proc", "/sys/devices/system", "/sys/kernel/mm", "/dev/urandom", "/dev/random"];

const DEVICES = ["/dev/null", "/dev/zero", "/dev/kvm"];

/** One line each: what it may do, and with which file or what is below which folder. */
export async function qemuConfinement(
  spec: VmSpec,
  program: string,
  outgoing: readonly string[],
): Promise<string[]> {
  const installed = dirname(dirname(await Deno.realPath(program)));
  const own = ["share/qemu", "share/seabios", "lib", "lib64"].map((name) => join(installed, name));
  const card = spec.net && spec.net.transport !== "tsi" ? [spec.net.socketPath] : [];
  const lines = (word: string, paths: readonly string[]) => paths.map((path) => `${word} ${path}`);
  const writable = spec.disks.filter(({ readonly }) => !readonly).map(({ path }) => path);
  return [
    ...lines("read", [...SYSTEM, ...own, ...KERNEL]),
    ...lines("read", [spec.kernel.path, ...spec.ram?.layers ?? [], ...await frozenDisks(spec)]),
    ...lines("write", [...DEVICES, spec.consoleLogPath, ...writable]),
    ...lines("make", [spec.runtimeDir, ...outgoing]),
    ...lines("connect", card),
  ];
}

/** Disks that it only reads: those of the spec, and what lies below an overlay. */
async function frozenDisks({ disks }: VmSpec): Promise<string[]> {
  const paths = disks.filter(({ readonly }) => readonly).map(({ path }) => path);
  for (const { path, format, readonly } of disks) {
    const dir = dirname(path);
    if (readonly || format === "raw" || !await exists(join(dir, "disk.json"))) continue;
    paths.push(...chainFiles(await readDiskChain(dir)).slice(1).map((name) => join(dir, name)));
  }
  return paths;
}
