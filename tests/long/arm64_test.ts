/**
 * arm64 guests on a host of another processor: the kernel, cross-built, what `file` says of it and a boot to PID 1 with
 * Debian's busybox; a program by `--exec`; and a cluster from nothing to its end, with sleep and a clone.
 * It must not need arm64 hardware.
 *
 * @module
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { join } from "@std/path";
import { buildTargets } from "../../bootstrap/artifacts/ensure.ts";
import { compile } from "../../bootstrap/package/compile.ts";
import { silentSpan } from "../../vm/base/event.ts";
import { ensureTools } from "../../vm/base/host_tools.ts";
import { run } from "../../vm/base/process.ts";
import { conformanceOnQemu } from "../conformance/qemu.ts";
import { initramfs } from "../kernel/initramfs.ts";
import { Client } from "../vm/client.ts";
import { freePort, TestHome, withEvidence } from "../vm/harness.ts";

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

Deno.test("conformance of arm64 guests on QEMU", (t) => conformanceOnQemu(t, "arm64"));

const ARM = ["--arch", "arm64"];
/** The first start builds everything for arm64. */
const BUILD_TIMEOUT_MS = 120 * 60_000;
const UP_TIMEOUT_MS = 20 * 60_000;

Deno.test("--exec runs a program in an arm64 guest and passes its streams and exit code", async () => {
  await using home = await TestHome.make();
  const script = "uname -m; cat; exit 7";
  const { code, stdout } = await home.call([...ARM, "--exec", "/bin/sh", "-c", script], {
    stdin: new TextEncoder().encode("from the host"),
    timeoutMs: BUILD_TIMEOUT_MS,
  });
  assertEquals([code, stdout], [7, "aarch64\nfrom the host"]);
  await home.assertClean();
});

Deno.test("an arm64 cluster, from nothing to gone", async (t) => {
  await using home = await TestHome.make();
  const client = new Client(home);
  const step = (name: string, fn: () => Promise<void>) =>
    t.step(name, () => withEvidence(home, "default", fn));
  const up = (...more: string[]) =>
    home.ok(["up", "--detach", ...more], { timeoutMs: UP_TIMEOUT_MS });

  await step("it is READY and its service answers over mutual TLS", async () => {
    const size = ["--memory", "3072", "--cpus", "2"];
    await up(...ARM, "--cold", "--port", `${freePort()}:30051`, ...size);
    assert(await client.answers());
    const { stdout } = await home.ok(["exec", "--", "uname", "-m"]);
    assertEquals(stdout, "aarch64\n");
  });

  await step("status and list name its processor", async () => {
    assertMatch((await home.ok(["status"])).stdout, /^machine +2 CPU \(arm64\), 3072 MiB$/m);
    assertMatch((await home.ok(["list"])).stdout, /^default +ready .* arm64 +2 CPU/m);
  });

  await step("the one file for arm64 unpacks itself and runs there", async () => {
    const file = join(home.home, "gateway-linux-arm64");
    const say = () => {};
    await compile({ path: file, say, target: "linux-arm64", parts: options(), ...options() });
    await home.ok(["cp", file, "default:/state/gateway-arm64"], { timeoutMs: UP_TIMEOUT_MS });
    const call = "XDG_CACHE_HOME=/state/cache /state/gateway-arm64 --version; rm -r /state/cache";
    const { stdout } = await home.ok(["exec", "--", "sh", "-c", call], {
      timeoutMs: UP_TIMEOUT_MS,
    });
    assertMatch(stdout, /^gateway \S+\n/);
    assertMatch(stdout, /aarch64|arm64/);
    await home.ok(["exec", "--", "rm", "/state/gateway-arm64"]);
  });

  await step("every check of `gateway verify` passes that is required", async () => {
    await home.ok(["verify"], { timeoutMs: UP_TIMEOUT_MS });
  });

  await step("it goes on after suspend, as what it was", async () => {
    await home.ok(["suspend"], { timeoutMs: UP_TIMEOUT_MS });
    await up();
    assert(await client.answers());
  });

  await step("a clone of it has an answer of its own", async () => {
    await home.ok(["fork", "default", "clone"], { timeoutMs: UP_TIMEOUT_MS });
    assert(await client.answers("clone"));
    await home.ok(["rm", "--force", "clone"]);
  });

  await step("it starts again from its disk, and ends cleanly", async () => {
    await home.ok(["down"], { timeoutMs: UP_TIMEOUT_MS });
    await up();
    assert(await client.answers());
    await home.ok(["down"], { timeoutMs: UP_TIMEOUT_MS });
  });
});
