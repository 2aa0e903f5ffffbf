/**
 * The arm64 kernel: cross-built, what `file` says of it, and a boot to PID 1 in an emulated machine with Debian's arm64
 * busybox.
 * It must not need arm64 hardware.
 *
 * @module
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { join } from "@std/path";
import { buildTargets } from "../../bootstrap/artifacts/ensure.ts";
import { silentSpan } from "../../vm/base/event.ts";
import { ensureTools } from "../../vm/base/host_tools.ts";
import { run } from "../../vm/base/process.ts";
import { initramfs } from "../kernel/initramfs.ts";

const options = () => ({
  span: silentSpan(),
  signal: new AbortController().signal,
  assumeYes: true,
});

/** Debian's static busybox for arm64, by package lists of the test's own. */
async function armBusybox(dir: string): Promise<Uint8Array> {
  for (const folder of ["lists/partial", "cache/archives/partial", "package"]) {
    await Deno.mkdir(join(dir, folder), { recursive: true });
  }
  const settings = [
    ...["APT::Architecture=arm64", "APT::Architectures=arm64", "APT::Sandbox::User="],
    ...[`Dir::State::Lists=${join(dir, "lists")}`, `Dir::Cache=${join(dir, "cache")}`],
    "Dir::State::status=/dev/null",
  ].flatMap((setting) => ["-o", setting]);
  const apt = { cwd: join(dir, "package"), timeoutMs: 300_000 };
  await run("apt-get", { ...apt, args: [...settings, "update"] });
  await run("apt-get", { ...apt, args: [...settings, "download", "busybox-static"] });
  const deb = [...Deno.readDirSync(apt.cwd)][0]!.name;
  await run("dpkg-deb", { args: ["-x", join(apt.cwd, deb), join(dir, "root")] });
  for (const path of ["bin/busybox", "usr/bin/busybox"]) {
    const found = await Deno.readFile(join(dir, "root", path)).catch(() => undefined);
    if (found) return found;
  }
  throw new Error("the package has no busybox");
}

Deno.test("the arm64 kernel is an Image and boots to PID 1", async () => {
  await ensureTools([
    { program: "qemu-system-aarch64", debian: "qemu-system-arm" },
    { program: "file", debian: "file" },
  ], options());
  const [kernel] = await buildTargets("kernel", {
    ...options(),
    config: { vmm: "auto", arch: "arm64" },
  });
  const image = kernel!.files.Image!.path;
  const { stdout: kind } = await run("file", { args: ["-b", image] });
  assertMatch(kind, /^Linux kernel ARM64 boot executable Image, little-endian, 4K pages/);
  const dir = await Deno.makeTempDir();
  try {
    const commands = 'echo "PID1 $$ $(busybox uname -mr)" >/dev/console; busybox poweroff -f';
    await Deno.writeFile(
      join(dir, "initrd"),
      initramfs(await armBusybox(dir), `PATH=/bin; ${commands}`),
    );
    const { code, stdout } = await run("qemu-system-aarch64", {
      args: [
        ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"],
        ...["-machine", "virt,gic-version=3", "-accel", "tcg,thread=multi", "-cpu", "cortex-a57"],
        ...["-smp", "2", "-m", "512M", "-kernel", image, "-initrd", join(dir, "initrd")],
        ...["-append", "console=ttyAMA0 panic=-1 quiet loglevel=4"],
      ],
      timeoutMs: 60_000,
      check: false,
    });
    assertMatch(stdout, /^PID1 1 6\.\d+\.\d+-gateway aarch64\r?$/m);
    assertEquals(code, 0);
    assert(stdout.includes("Power down"), stdout);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
