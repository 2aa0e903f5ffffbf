/**
 * The outer machine: a QEMU that emulates AMD's virtualization, Debian's cloud kernel with kvm-amd, and a disk with the
 * product and what it needs. In it libkrun, and QEMU with KVM, boot real guests on hosts without hardware virtualization.
 * It must not use anything of the product to run: it is what the product is tried in.
 *
 * @module
 */
import { fromFileUrl, join } from "@std/path";
import { silentSpan } from "../../vm/base/event.ts";
import { ensureTools, type HostTool } from "../../vm/base/host_tools.ts";
import { run, spawnChild } from "../../vm/base/process.ts";
import { within } from "../../vm/base/wait.ts";
import type { Vmm } from "../../vm/machine/vmm.ts";
import type { ClusterRun } from "./inside_cluster.ts";
import { makeSuiteDisk, makeUserDisks } from "./outer_disk.ts";
import { type StockFirmware, stockFirmware } from "./stock_firmware.ts";

const here = (name: string) => fromFileUrl(new URL(name, import.meta.url));

/** What the outer machine is made with. */
export const TOOLS: readonly HostTool[] = [
  { program: "busybox", debian: "busybox-static" },
  { program: "cc", debian: "gcc" },
  { program: "mke2fs", debian: "e2fsprogs" },
  { program: "qemu-system-x86_64", debian: "qemu-system-x86" },
  { program: "xz", debian: "xz-utils" },
];

/** Debian's name for "the newest 6.12 cloud kernel". */
const KERNEL_PACKAGE = "linux-image-6.12-cloud-amd64";
const MODULES = ["virtio_blk", "kvm-amd"];

/** One line of the machine inside. */
export type Told =
  | {
    kind: "check";
    vmm: Vmm["name"];
    usable: boolean;
    description: string;
    why: string;
    ms: number;
  }
  | { kind: "case"; vmm: Vmm["name"]; name: string; error?: string; ms: number }
  | { kind: "step"; name: string; text: string; error?: string; ms: number }
  | { kind: "row"; name: string; value: number; unit: string; limit?: number; note?: string }
  | ({ kind: "cluster"; error?: string } & Partial<ClusterRun>)
  | { kind: "end" };

/** How a run of the outer machine went. */
export interface OuterRun {
  readonly told: readonly Told[];
  readonly seconds: number;
  /** What the case of TSI had, or why it was not run. */
  readonly firmware: StockFirmware;
  /** The outer console's last lines. */
  readonly console: string;
}

/** What is tried there: the suites on both VMMs, figures, a cluster on libkrun, or all that a user does on QEMU with KVM. */
export type OuterMode = "cases" | "bench" | "cluster" | "walk";

/**
 * Makes the machine below a folder and runs it to its end, or to the bound.
 * `silenceMs`: it is ended, too, when no result came for so long. The emulated virtualization was seen to hang once in
 * some twenty runs, the whole machine with it; what it last did is printed then, and it gets one more run.
 */
export async function runOuter(
  mode: OuterMode,
  timeoutMs: number,
  silenceMs = timeoutMs,
): Promise<OuterRun> {
  const signal = new AbortController().signal;
  await ensureTools(TOOLS, { span: silentSpan(), signal, assumeYes: true });
  const dir = await Deno.makeTempDir({ prefix: "gw-outer-" });
  try {
    await makeInitramfs(dir);
    const firmware = mode === "cases" ? await stockFirmware(dir) : { why: "it is not asked for" };
    if (mode === "walk") await makeUserDisks(dir);
    else await makeSuiteDisk(dir, "path" in firmware ? firmware.path : undefined);
    const first = await boot(dir, mode, { timeoutMs, silenceMs });
    if (first.hung === undefined) return { ...first, firmware };
    // deno-lint-ignore no-console
    console.log(`the outer machine hung after ${first.seconds.toFixed(0)} s\n${first.hung}`);
    return { ...await boot(dir, mode, { timeoutMs, silenceMs }), firmware };
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** The kernel and its modules, which are not installed on this host: apt brings the package, and it is unpacked here. */
async function unpackKernel(dir: string): Promise<string> {
  let shown = await run("apt-cache", { args: ["show", KERNEL_PACKAGE], check: false });
  if (shown.code !== 0) {
    await run("apt-get", { args: ["update"], timeoutMs: 300_000 });
    shown = await run("apt-cache", { args: ["show", KERNEL_PACKAGE] });
  }
  const name = /^Depends: (linux-image-\S+)/m.exec(shown.stdout)![1]!;
  const tree = join(dir, "kernel");
  await Deno.mkdir(tree);
  const args = ["-o", "APT::Sandbox::User=", "-o", "Acquire::Retries=3", "download", name];
  await run("apt-get", { args, cwd: tree, timeoutMs: 600_000 });
  const deb = [...Deno.readDirSync(tree)][0]!.name;
  await run("dpkg-deb", { args: ["-x", deb, "."], cwd: tree, timeoutMs: 120_000 });
  return tree;
}

async function makeInitramfs(dir: string): Promise<void> {
  const tree = await unpackKernel(dir);
  const version = [...Deno.readDirSync(join(tree, "lib/modules"))][0]!.name;
  await Deno.rename(join(tree, `boot/vmlinuz-${version}`), join(dir, "vmlinuz"));
  const root = join(dir, "initramfs");
  for (const name of ["bin", "modules", "proc", "sys", "dev", "mnt"]) {
    await Deno.mkdir(join(root, name), { recursive: true });
  }
  const order = await collectModules(join(tree, "lib/modules", version), join(root, "modules"));
  await Deno.writeTextFile(join(root, "modules/order"), order.join("\n") + "\n");
  await Deno.copyFile("/bin/busybox", join(root, "bin/busybox"));
  await Deno.symlink("busybox", join(root, "bin/sh"));
  await Deno.copyFile(here("outer_init.sh"), join(root, "init"));
  await Deno.chmod(join(root, "init"), 0o755);
  const { stdoutBytes } = await run("/bin/sh", {
    args: ["-c", "find . | busybox cpio -o -H newc"],
    cwd: root,
  });
  await Deno.writeFile(join(dir, "initramfs.cpio"), stdoutBytes);
  await Deno.remove(tree, { recursive: true });
}

/** Unpacks the wanted modules and what they depend on; returns their names in the order of loading. */
async function collectModules(from: string, to: string): Promise<string[]> {
  const { stdout } = await run("find", { args: [from, "-name", "*.ko.xz"] });
  const paths = new Map(
    stdout.trim().split("\n").map((
      path,
    ) => [plainName(path.slice(path.lastIndexOf("/") + 1)), path]),
  );
  const order: string[] = [];
  const add = async (name: string): Promise<void> => {
    const path = paths.get(name);
    // What is not a file is built into the kernel.
    if (path === undefined || order.includes(`${name}.ko`)) return;
    const { stdoutBytes } = await run("xz", { args: ["-dc", path] });
    const depends = /\0depends=([^\0]*)\0/.exec(new TextDecoder("latin1").decode(stdoutBytes));
    for (const other of depends?.[1]?.split(",") ?? []) await add(plainName(other));
    await Deno.writeFile(join(to, `${name}.ko`), stdoutBytes);
    order.push(`${name}.ko`);
  };
  for (const name of MODULES) await add(plainName(name));
  return order;
}

const plainName = (file: string) => file.replace(/\.ko\.xz$/, "").replaceAll("-", "_");

async function boot(
  dir: string,
  mode: OuterMode,
  bounds: { readonly timeoutMs: number; readonly silenceMs: number },
): Promise<Omit<OuterRun, "firmware"> & { readonly hung?: string }> {
  const [console, results] = [join(dir, "console.log"), join(dir, "results")];
  const monitor = join(dir, "monitor.sock");
  const started = performance.now();
  await using qemu = spawnChild("qemu-system-x86_64", {
    args: [
      ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-nic", "none"],
      ...["-accel", "tcg,thread=multi", "-cpu", "max,la57=off", "-smp", "1"],
      ...["-m", mode === "walk" ? "10240" : "4096"],
      ...["-kernel", join(dir, "vmlinuz"), "-initrd", join(dir, "initramfs.cpio")],
      ...["-append", `console=ttyS0 panic=-1 quiet mitigations=off gateway.nested=${mode}`],
      ...["-drive", `if=none,id=disk,format=raw,readonly=on,file=${join(dir, "disk.img")}`],
      ...["-device", "virtio-blk-pci,drive=disk"],
      ...(mode === "walk" ? scratchDisk(dir) : []),
      ...["-serial", `file:${console}`, "-serial", `file:${results}`],
      ...["-monitor", `unix:${monitor},server=on,wait=off`],
    ],
    stderr: "piped",
    ownGroup: true,
  });
  const words = new Response(qemu.stderr).text();
  const read = (path: string) => Deno.readTextFile(path).catch(() => "");
  let [length, since] = [0, started];
  let hung: string | undefined;
  while (hung === undefined && await within(qemu.exited, 2000) === undefined) {
    const now = performance.now();
    const { length: longer } = await read(results);
    if (longer > length) [length, since] = [longer, now];
    if (now - started > bounds.timeoutMs) break;
    if (now - since > bounds.silenceMs) hung = await registers(monitor) + await read(console);
  }
  await qemu.stop(2000);
  const lines = (await read(results)).split("\n").map((line) => line.trim());
  return {
    told: lines.filter((line) => line.startsWith("{")).map((line) => JSON.parse(line) as Told),
    seconds: (performance.now() - started) / 1000,
    console: (await read(console)).split("\n").slice(-40).join("\n") + await words,
    hung,
  };
}

/** What the machine's processor does, as QEMU's monitor tells it within two seconds. */
async function registers(monitor: string): Promise<string> {
  using conn = await Deno.connect({ transport: "unix", path: monitor });
  await conn.write(new TextEncoder().encode("info status\ninfo registers\n"));
  let text = "";
  const decoder = new TextDecoder();
  const reads = async () => {
    for await (const piece of conn.readable) text += decoder.decode(piece);
  };
  await within(reads().catch(() => {}), 2000);
  // Without the echo of what was typed, and the vector registers.
  const lines = text.split("\n").filter((line) => !line.includes("\x1b") && !/^[FXY]/.test(line));
  return lines.join("\n");
}

const scratchDisk = (dir: string) => [
  ...["-drive", `if=none,id=scratch,format=raw,cache=unsafe,file=${join(dir, "scratch.img")}`],
  ...["-device", "virtio-blk-pci,drive=scratch"],
];
