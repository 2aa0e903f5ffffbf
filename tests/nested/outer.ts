/**
 * The outer machine: a QEMU that emulates AMD's virtualization, Debian's cloud kernel with kvm-amd, and a disk with the
 * product and what it needs. In it libkrun, and QEMU with KVM, boot real guests on hosts without hardware virtualization.
 * It must not use anything of the product to run: it is what the product is tried in.
 *
 * @module
 */
import { fromFileUrl, join } from "@std/path";
import { ensureArtifacts } from "../../bootstrap/artifacts.ts";
import { ArtifactStore } from "../../vm/artifact.ts";
import { QEMU_IMG_TOOL } from "../../vm/disk_chain.ts";
import { silentSpan } from "../../vm/event.ts";
import { ensureTools, type HostTool } from "../../vm/host_tools.ts";
import { LIBKRUN_FILE, libkrunRecipe } from "../../vm/libkrun_build.ts";
import { run, spawnChild } from "../../vm/process.ts";
import type { Vmm } from "../../vm/vmm.ts";
import { bundleVmmProcess } from "../../vm/vmm_bundle.ts";
import { within } from "../../vm/wait.ts";
import { makeLayeredDisk } from "../conformance/layered.ts";
import { FakeKrun } from "../fakes/krun.ts";
import type { ClusterRun } from "./inside_cluster.ts";
import { initramfs } from "../kernel/initramfs.ts";
import { type StockFirmware, stockFirmware } from "./stock_firmware.ts";

const REPO = fromFileUrl(new URL("../..", import.meta.url));
const here = (name: string) => fromFileUrl(new URL(name, import.meta.url));

/** What the outer machine is made with. */
export const TOOLS: readonly HostTool[] = [
  { program: "busybox", debian: "busybox-static" },
  { program: "cc", debian: "gcc" },
  { program: "mke2fs", debian: "e2fsprogs" },
  { program: "qemu-system-x86_64", debian: "qemu-system-x86" },
  { program: "xz", debian: "xz-utils" },
  QEMU_IMG_TOOL,
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

/** Makes the machine below a folder and runs it to its end, or to the bound. */
export async function runOuter(
  mode: "cases" | "bench" | "cluster",
  timeoutMs: number,
): Promise<OuterRun> {
  const signal = new AbortController().signal;
  await ensureTools(TOOLS, { span: silentSpan(), signal, assumeYes: true });
  const dir = await Deno.makeTempDir({ prefix: "gw-outer-" });
  try {
    await makeInitramfs(dir);
    const firmware = mode === "cases" ? await stockFirmware(dir) : { why: "it is not asked for" };
    await makeDisk(dir, "path" in firmware ? firmware.path : undefined);
    return { ...await boot(dir, mode, timeoutMs), firmware };
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
  const name = /^Depends: (linux-image-\S+)/m.exec(shown.stdout)![1];
  const tree = join(dir, "kernel");
  await Deno.mkdir(tree);
  const args = ["-o", "APT::Sandbox::User=", "-o", "Acquire::Retries=3", "download", name];
  await run("apt-get", { args, cwd: tree, timeoutMs: 600_000 });
  const [deb] = [...Deno.readDirSync(tree)].map((entry) => entry.name);
  await run("dpkg-deb", { args: ["-x", deb, "."], cwd: tree, timeoutMs: 120_000 });
  return tree;
}

async function makeInitramfs(dir: string): Promise<void> {
  const tree = await unpackKernel(dir);
  const [version] = [...Deno.readDirSync(join(tree, "lib/modules"))].map((entry) => entry.name);
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
    for (const other of depends?.[1].split(",") ?? []) await add(plainName(other));
    await Deno.writeFile(join(to, `${name}.ko`), stdoutBytes);
    order.push(`${name}.ko`);
  };
  for (const name of MODULES) await add(plainName(name));
  return order;
}

const plainName = (file: string) => file.replace(/\.ko\.xz$/, "").replaceAll("-", "_");

const DISK_FOLDERS = [
  ...["bin", "proc", "sys", "dev", "tmp", "etc"],
  ...["gateway/lib", "cache/gateway", "usr/bin", "usr/share"],
];

/** QEMU's programs, and its firmware beside them. */
const QEMU_PROGRAMS = ["/usr/bin/qemu-system-x86_64", "/usr/bin/qemu-img"];
const QEMU_DATA = ["qemu", "seabios"];

/** The disk: Deno, the suite and libkrun's child as bundles, our kernel, root image, gvproxy, both VMMs, and the yardstick. */
async function makeDisk(dir: string, firmware?: string): Promise<void> {
  const root = join(dir, "disk");
  const cache = join(root, "cache/gateway");
  for (const name of DISK_FOLDERS) await Deno.mkdir(join(root, name), { recursive: true });
  const signal = new AbortController().signal;
  const options = { span: silentSpan(), signal, assumeYes: true };
  const artifacts = await ensureArtifacts(options);
  const libkrun = await new ArtifactStore().ensure(await libkrunRecipe("x86_64"), options);
  const library = libkrun.files[LIBKRUN_FILE].path;
  const files: readonly (readonly [string, string])[] = [
    [artifacts.kernel.files.vmlinux.path, join(cache, "vmlinux")],
    [artifacts.root.files["root.erofs"].path, join(cache, "root.erofs")],
    [artifacts.gvproxy.files.gvproxy.path, join(cache, "gvproxy")],
    [library, join(cache, LIBKRUN_FILE)],
    [library, join(root, "gateway/lib/libkrun.so.1")],
    [Deno.execPath(), join(root, "bin/deno")],
    ["/bin/busybox", join(root, "bin/busybox")],
    [here("outer_run.sh"), join(root, "gateway/run.sh")],
    ...QEMU_PROGRAMS.map((path) => [path, join(root, path)] as const),
  ];
  for (const [from, to] of files) await Deno.copyFile(from, to);
  await Deno.symlink("busybox", join(root, "bin/sh"));
  await Deno.writeTextFile(join(root, "etc/resolv.conf"), "nameserver 10.77.0.1\n");
  if (firmware !== undefined) {
    // In a folder of their own, so that all other cases have none.
    const stock = join(cache, "stock");
    await Deno.mkdir(stock);
    await Deno.copyFile(library, join(stock, LIBKRUN_FILE));
    await Deno.copyFile(firmware, join(stock, "libkrunfw.so.5"));
  }
  await makeLayeredDisk(cache);
  for (
    const [define, name] of [["NO_NET", "libkrun-no-net.so"], ["OLD", "libkrun-old.so"]] as const
  ) {
    await using fake = await FakeKrun.build([define]);
    await Deno.copyFile(fake.path, join(cache, name));
  }
  await run("cc", {
    args: ["-O1", "-Wall", "-o", join(root, "gateway/boot"), here("boot.c"), library],
  });
  await bundleVmmProcess(join(root, "gateway"), { signal });
  await bundle("tests/nested/inside.ts", join(root, "gateway"));
  await makeContextCase(join(root, "gateway"));
  await copyLibraries(root, [Deno.execPath(), library, ...QEMU_PROGRAMS]);
  const shares = QEMU_DATA.map((name) => `/usr/share/${name}`);
  await run("cp", { args: ["-rL", ...shares, join(root, "usr/share")] });
  const image = join(dir, "disk.img");
  await run("mke2fs", {
    args: ["-q", "-t", "ext4", "-O", "^has_journal", "-d", root, image, "1000M"],
    timeoutMs: 120_000,
  });
  await Deno.remove(root, { recursive: true });
}

const SHARES = `bb=/bin/busybox
$bb mkdir -p /shared /fixed
$bb mount -t virtiofs shared /shared; $bb mount -t virtiofs fixed /fixed
echo "SHARED $($bb cat /shared/from-host)"
echo "written by the guest" >/shared/from-guest
$bb touch /fixed/x 2>/dev/null || echo "FIXED is read-only"
/fixed/guest_vsock
$bb sync
$bb reboot -f`;

/** The files of inside_context.ts. */
async function makeContextCase(folder: string): Promise<void> {
  await Deno.mkdir(join(folder, "context"));
  const busybox = await Deno.readFile("/bin/busybox");
  await Deno.writeFile(join(folder, "context/initrd"), initramfs(busybox, SHARES));
  const program = join(folder, "context/guest_vsock");
  await run("cc", { args: ["-O1", "-Wall", "-static", "-o", program, here("guest_vsock.c")] });
  await bundle("tests/nested/context_child.ts", folder);
  await bundle("tests/nested/init_child.ts", folder);
}

async function bundle(entry: string, folder: string): Promise<void> {
  const args = ["bundle", "--quiet", "--platform", "deno", "--code-splitting", "--outdir", folder];
  await run(Deno.execPath(), { args: [...args, entry], cwd: REPO, timeoutMs: 120_000 });
}

/** The shared libraries of programs, at the same paths. */
async function copyLibraries(root: string, programs: readonly string[]): Promise<void> {
  const { stdout } = await run("ldd", { args: [...programs] });
  const paths = new Set(
    [...stdout.matchAll(/(?:=> |^\t)(\/lib\S+) \(/gm)].map((match) => match[1]),
  );
  for (const path of paths) {
    await Deno.mkdir(join(root, path, ".."), { recursive: true });
    await Deno.copyFile(path, join(root, path));
  }
}

async function boot(
  dir: string,
  mode: string,
  timeoutMs: number,
): Promise<Omit<OuterRun, "firmware">> {
  const [console, results] = [join(dir, "console.log"), join(dir, "results")];
  const started = performance.now();
  await using qemu = spawnChild("qemu-system-x86_64", {
    args: [
      ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-nic", "none"],
      ...["-accel", "tcg,thread=multi", "-cpu", "max,la57=off", "-smp", "1", "-m", "4096"],
      ...["-kernel", join(dir, "vmlinuz"), "-initrd", join(dir, "initramfs.cpio")],
      ...["-append", `console=ttyS0 panic=-1 quiet mitigations=off gateway.nested=${mode}`],
      ...["-drive", `if=none,id=disk,format=raw,readonly=on,file=${join(dir, "disk.img")}`],
      ...["-device", "virtio-blk-pci,drive=disk"],
      ...["-serial", `file:${console}`, "-serial", `file:${results}`],
    ],
    stderr: "piped",
    ownGroup: true,
  });
  const words = new Response(qemu.stderr).text();
  await within(qemu.exited, timeoutMs);
  await qemu.stop(2000);
  const read = (path: string) => Deno.readTextFile(path).catch(() => "");
  const lines = (await read(results)).split("\n").map((line) => line.trim());
  return {
    told: lines.filter((line) => line.startsWith("{")).map((line) => JSON.parse(line) as Told),
    seconds: (performance.now() - started) / 1000,
    console: (await read(console)).split("\n").slice(-40).join("\n") + await words,
  };
}
