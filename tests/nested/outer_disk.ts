/**
 * Disks of the outer machine: with the suites and all they need, or with the product's one file as a user would have it.
 *
 * @module
 */
import { fromFileUrl, join } from "@std/path";
import { ensureArtifacts } from "../../bootstrap/artifacts/ensure.ts";
import { packForEmbedding } from "../../bootstrap/package/embed.ts";
import { makeOneFile } from "../../bootstrap/package/one_file.ts";
import { thisHost } from "../../vm/base/arch.ts";
import { silentSpan } from "../../vm/base/event.ts";
import { run } from "../../vm/base/process.ts";
import { LIBKRUN_FILE, libkrunRecipe } from "../../vm/libkrun/build.ts";
import { bundleVmmProcess } from "../../vm/libkrun/vmm_bundle.ts";
import { ArtifactStore } from "../../vm/store/artifact.ts";
import { makeLayeredDisk } from "../conformance/layered.ts";
import { FakeKrun } from "../fakes/krun.ts";
import { initramfs } from "../kernel/initramfs.ts";

const REPO = fromFileUrl(new URL("../..", import.meta.url));
const here = (name: string) => fromFileUrl(new URL(name, import.meta.url));

/** Where things are mounted, what is always there, and the place of what is tried. */
const FOLDERS = [
  ...["bin", "proc", "sys", "dev", "tmp", "etc", "data", "gateway"],
  ...["usr/bin", "usr/share"],
];

/** QEMU, at the places where it looks for its firmware. */
const QEMU_PROGRAMS = ["/usr/bin/qemu-system-x86_64", "/usr/bin/qemu-img"];
const QEMU_DATA = ["/usr/share/qemu", "/usr/share/seabios"];

/** The disk of the suites: libkrun and its child, our kernel, root image and gvproxy, and the yardstick of the benchmark. */
export async function makeSuiteDisk(dir: string, firmware?: string): Promise<void> {
  const root = await makeSystem(dir);
  const [home, cache] = [join(root, "gateway"), join(root, "cache/gateway")];
  for (const path of [join(home, "lib"), cache]) await Deno.mkdir(path, { recursive: true });
  const options = building();
  const artifacts = await ensureArtifacts(options);
  const libkrun = await new ArtifactStore().ensure(await libkrunRecipe("x86_64"), options);
  const library = libkrun.files[LIBKRUN_FILE]!.path;
  const files: readonly (readonly [string, string])[] = [
    [artifacts.kernel.files.vmlinux!.path, join(cache, "vmlinux")],
    [artifacts.root.files["root.erofs"]!.path, join(cache, "root.erofs")],
    [artifacts.gvproxy.files.gvproxy!.path, join(cache, "gvproxy")],
    [library, join(cache, LIBKRUN_FILE)],
    [library, join(home, "lib/libkrun.so.1")],
  ];
  for (const [from, to] of files) await Deno.copyFile(from, to);
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
  await run("cc", { args: ["-O1", "-Wall", "-o", join(home, "boot"), here("boot.c"), library] });
  await bundleVmmProcess(home, options);
  await bundle("tests/nested/inside.ts", home);
  await makeContextCase(home);
  await finishDisk(dir, root, [library], "1000M");
}

/** What the one file needs of a system where busybox's is not enough, and OpenSSH's client. */
const USER_PROGRAMS = [
  ...["ssh", "find", "cmp", "tar", "flock", "sha256sum"],
  ...["head", "tail", "ls", "df", "mv"],
];

/** The disk of a user: the one file with everything in it, OpenSSH's client, and an empty disk to write to. */
export async function makeUserDisks(dir: string): Promise<void> {
  const root = await makeSystem(dir);
  const options = building();
  await makeOneFile(
    join(root, "gateway/gateway"),
    options.signal,
    await packForEmbedding(thisHost(), options),
  );
  await bundle("tests/nested/inside_walk.ts", join(root, "gateway"));
  await Deno.writeTextFile(join(root, "etc/passwd"), "root:x:0:0:root:/data:/bin/sh\n");
  const programs = USER_PROGRAMS.map((name) => `/usr/bin/${name}`);
  for (const path of programs) await Deno.copyFile(path, join(root, path));
  // Busybox's shell prefers its own applets to programs of their names.
  await Deno.remove(join(root, "bin/sh"));
  await Deno.copyFile("/bin/dash", join(root, "bin/sh"));
  await finishDisk(dir, root, programs, "1500M");
  await makeImage([join(dir, "scratch.img"), "20G"]);
}

const building = () => ({
  span: silentSpan(),
  signal: new AbortController().signal,
  assumeYes: true,
});

/** The tree of a machine that has QEMU, busybox for all else, and Deno for what tries the product. */
async function makeSystem(dir: string): Promise<string> {
  const root = join(dir, "disk");
  for (const name of FOLDERS) await Deno.mkdir(join(root, name), { recursive: true });
  await Deno.copyFile("/bin/busybox", join(root, "bin/busybox"));
  const { stdout } = await run("/bin/busybox", { args: ["--list"] });
  for (const name of stdout.trim().split("\n")) {
    if (name !== "busybox") await Deno.symlink("busybox", join(root, "bin", name));
  }
  await Deno.copyFile(Deno.execPath(), join(root, "bin/deno"));
  for (const path of QEMU_PROGRAMS) await Deno.copyFile(path, join(root, path));
  await run("cp", { args: ["-rL", ...QEMU_DATA, join(root, "usr/share")] });
  await Deno.copyFile(here("outer_run.sh"), join(root, "gateway/run.sh"));
  await Deno.writeTextFile(join(root, "etc/resolv.conf"), "nameserver 10.77.0.1\n");
  return root;
}

async function finishDisk(
  dir: string,
  root: string,
  more: readonly string[],
  size: string,
): Promise<void> {
  await copyLibraries(root, [Deno.execPath(), ...QEMU_PROGRAMS, ...more]);
  await makeImage(["-d", root, join(dir, "disk.img"), size]);
  await Deno.remove(root, { recursive: true });
}

async function makeImage(args: readonly string[]): Promise<void> {
  await run("mke2fs", {
    args: ["-q", "-t", "ext4", "-O", "^has_journal", ...args],
    timeoutMs: 120_000,
  });
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
    [...stdout.matchAll(/(?:=> |^\t)(\/lib\S+) \(/gm)].map((match) => match[1]!),
  );
  for (const path of paths) {
    await Deno.mkdir(join(root, path, ".."), { recursive: true });
    await Deno.copyFile(path, join(root, path));
  }
}
