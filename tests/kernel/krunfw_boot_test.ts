/**
 * libkrunfw.so.5 in use: libkrun, which knows nothing of us, boots our kernel from it, inside a machine whose emulated
 * processor has nested virtualization.
 * It must not need KVM on the host. It needs libkrun in the store, and says so where there is none.
 *
 * @module
 */
import { assertMatch } from "@std/assert";
import { basename, join } from "@std/path";
import { buildTargets } from "../../bootstrap/artifacts/ensure.ts";
import { silentSpan } from "../../vm/base/event.ts";
import { cacheDir } from "../../vm/base/layout.ts";
import { run, which } from "../../vm/base/process.ts";
import type { ArtifactManifest } from "../../vm/store/artifact.ts";
import { debianKernel } from "./debian.ts";
import { archive, type Entry, FOLDER, initramfs, LINK, PROGRAM } from "./initramfs.ts";

/** libkrun.so as some build of it left it in the store. */
function storedLibkrun(): string | undefined {
  const artifacts = join(cacheDir(), "artifacts");
  try {
    for (const { name } of Deno.readDirSync(join(artifacts, "manifests"))) {
      if (!/^libkrun-[0-9a-f]{16}\.json$/.test(name)) continue;
      const text = Deno.readTextFileSync(join(artifacts, "manifests", name));
      const { files } = JSON.parse(text) as ArtifactManifest;
      const file = Object.keys(files).find((one) => one.startsWith("libkrun.so"));
      if (file) return join(artifacts, "sha256", files[file]!.sha256, file);
    }
  } catch {
    // No store yet.
  }
}

const libkrun = storedLibkrun();

const OUTER = `mount="/bin/busybox mount"
$mount -t sysfs sysfs /sys; $mount -t devtmpfs dev /dev
for module in irqbypass kvm kvm-amd; do /bin/busybox insmod /$module.ko; done
LD_LIBRARY_PATH=/lib /bin/krunboot </dev/null
echo "OUTER rc $?" >/dev/console
/bin/busybox reboot -f`;

const MODULES = ["virt/lib/irqbypass", "arch/x86/kvm/kvm", "arch/x86/kvm/kvm-amd"];

/** The program, libkrun, our kernel, and whatever they are linked to. */
async function programEntries(dir: string, krunfw: string): Promise<Entry[]> {
  const library = join(dir, "libkrun.so.1");
  await Deno.copyFile(libkrun!, library);
  const program = join(dir, "krunboot");
  const source = new URL("krunboot.c", import.meta.url).pathname;
  await run("gcc", { args: ["-Wall", "-Werror", "-o", program, source, library] });
  const env = { LD_LIBRARY_PATH: dir };
  const { stdout } = await run("ldd", { args: [program], env });
  const linked = [...stdout.matchAll(/(\/\S+) \(0x/g)].map((match) => match[1]!);
  const { stdout: more } = await run("ldd", { args: [library], env });
  linked.push(...[...more.matchAll(/(\/\S+) \(0x/g)].map((match) => match[1]!));
  const names = new Map(linked.map((path) => [basename(path), path]));
  names.set("libkrun.so.1", library).set("libkrunfw.so.5", krunfw);
  const file = (name: string, path: string) => ({
    name,
    mode: PROGRAM,
    data: Deno.readFileSync(path),
  });
  return [
    { name: "lib", mode: FOLDER },
    { name: "lib64", mode: FOLDER },
    file("bin/krunboot", program),
    ...[...names].map(([name, path]) => file(`lib/${name}`, path)),
    file("lib64/ld-linux-x86-64.so.2", "/lib64/ld-linux-x86-64.so.2"),
  ];
}

/** What the inner guest sees. */
function innerEntries(busybox: Uint8Array): Entry[] {
  const folders = ["", "/bin", "/dev", "/etc", "/proc", "/sys", "/tmp"];
  return [
    { name: "sys", mode: FOLDER },
    { name: "tmp", mode: FOLDER },
    ...folders.map((name) => ({ name: `inner${name}`, mode: FOLDER })),
    { name: "inner/bin/busybox", mode: PROGRAM, data: busybox },
    { name: "inner/bin/sh", mode: LINK, data: new TextEncoder().encode("busybox") },
  ];
}

Deno.test({
  name: "libkrun boots our kernel from libkrunfw.so.5" +
    (libkrun === undefined ? " (skipped: no build has left a libkrun in the store)" : ""),
  ignore: libkrun === undefined,
  fn: async () => {
    const signal = new AbortController().signal;
    const options = { span: silentSpan(), signal, assumeYes: true };
    const [, krunfw] = await buildTargets("libkrunfw", options);
    const dir = await Deno.makeTempDir();
    try {
      const debian = await debianKernel(dir);
      const modules = await Promise.all(MODULES.map(async (name) => ({
        name: `${basename(name)}.ko`,
        mode: PROGRAM,
        data: (await run("xz", {
          args: ["-dc", join(debian.modulesDir, `kernel/${name}.ko.xz`)],
        })).stdoutBytes,
      })));
      const busybox = await Deno.readFile(which("busybox")!);
      const extra = archive([
        ...await programEntries(dir, krunfw!.files["libkrunfw.so.5"]!.path),
        ...innerEntries(busybox),
        ...modules,
      ]);
      // Two archives one after the other are one to the kernel; the first has the folders.
      await Deno.writeFile(join(dir, "initrd"), initramfs(busybox, OUTER));
      await Deno.writeFile(join(dir, "initrd"), extra, { append: true });
      const { stdout } = await run("qemu-system-x86_64", {
        args: [
          ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial"],
          ...["stdio", "-accel", "tcg", "-cpu", "max,la57=off", "-m", "3072M"],
          ...["-kernel", debian.path, "-initrd", join(dir, "initrd")],
          ...["-append", "console=ttyS0 panic=-1 quiet"],
        ],
        timeoutMs: 120_000,
        check: false,
      });
      assertMatch(stdout, /^INNER \d+ \d+\.\d+\.\d+-gateway\r?$/m);
      assertMatch(stdout, /^OUTER rc 7\r?$/m);
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  },
});
