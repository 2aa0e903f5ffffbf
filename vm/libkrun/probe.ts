/**
 * Finds out whether a libkrun works on this host by booting the real kernel with it. That it loads proves nothing, and
 * neither does /dev/kvm.
 * It must not run more than once per library, kernel and machine: the verdict is cached.
 *
 * @module
 */
import { join } from "@std/path";
import * as v from "valibot";
import { digestBytes, digestFile } from "../base/digest.ts";
import { writeCacheFile } from "../base/durable.ts";
import { abortError, GatewayError } from "../base/error.ts";
import { within } from "../base/wait.ts";
import type { VmSpec } from "../machine/spec.ts";
import type { RunningVm, StartOptions } from "../machine/vmm.ts";

/** What the probe found. */
export interface LibkrunVerdict {
  readonly usable: boolean;
  /** The library's version, as its process told it; "" when it did not come so far. */
  readonly version: string;
  readonly why: string;
  readonly fix: string;
}

const Verdict = v.object({
  usable: v.boolean(),
  version: v.string(),
  why: v.string(),
  fix: v.string(),
});

interface ProbeOptions extends StartOptions {
  readonly libraryPath: string;
  readonly kernelPath: string;
  readonly cacheDir: string;
  /** The bound of the boot, which covers the start of the child. */
  readonly timeoutMs: number;
  readonly start: (spec: VmSpec, options: StartOptions) => Promise<RunningVm>;
}

/** The verdict for this library on this host, from the cache or from a probe boot. */
export async function probeLibkrun(options: ProbeOptions): Promise<LibkrunVerdict> {
  const kernel = await Deno.stat(options.kernelPath);
  const machine = [Deno.osRelease(), Deno.hostname(), Deno.build.arch];
  const library = await digestFile(options.libraryPath);
  const parts = ["libkrun", ...machine, kernel.size, kernel.mtime?.getTime(), library];
  const folder = join(options.cacheDir, "probes");
  const path = join(folder, `${digestBytes(parts.join("\0")).slice(0, 16)}.json`);
  const cached = await Deno.readTextFile(path)
    .then((text) => v.safeParse(Verdict, JSON.parse(text)))
    .catch(() => undefined);
  if (cached?.success) return cached.output;
  await Deno.mkdir(folder, { recursive: true });
  const verdict = await options.span.run("probe libkrun", () => probeBoot(folder, options));
  await writeCacheFile(path, JSON.stringify(verdict), 0o644);
  return verdict;
}

async function probeBoot(folder: string, options: ProbeOptions): Promise<LibkrunVerdict> {
  const dir = await Deno.makeTempDir({ dir: folder, prefix: "probe-" });
  try {
    const spec = probeSpec(dir, options.kernelPath);
    let ended: Awaited<RunningVm["exited"]> | undefined;
    {
      await using vm = await options.start(spec, options);
      const stop = () => void vm.stop(500);
      options.signal.addEventListener("abort", stop, { once: true });
      ended = await within(vm.exited, options.timeoutMs);
      options.signal.removeEventListener("abort", stop);
    }
    if (options.signal.aborted) throw abortError(options.signal);
    return await judge(spec, ended, options.timeoutMs);
  } finally {
    await Deno.remove(dir, { recursive: true }).catch(() => {});
  }
}

/**
 * There is no root: the kernel's own panic is the sign that it came all the way up. It waits a second before the reset,
 * since what is still on its way through the virtual console is lost then (seen).
 */
function probeSpec(dir: string, kernelPath: string): VmSpec {
  const format = Deno.build.arch === "aarch64" ? "image-arm64" : "elf";
  return {
    schemaVersion: 1,
    name: "probe",
    cpus: 1,
    memoryMiB: 256,
    kernel: { path: kernelPath, format, cmdline: "console=hvc0 panic=1 reboot=t" },
    ram: null,
    incoming: null,
    disks: [],
    net: null,
    consolePorts: [],
    consoleLogPath: join(dir, "console.log"),
    runtimeDir: dir,
    vmmLogPath: join(dir, "vmm.log"),
  };
}

async function judge(
  spec: VmSpec,
  ended: Awaited<RunningVm["exited"]> | undefined,
  timeoutMs: number,
): Promise<LibkrunVerdict> {
  const read = (path: string) => Deno.readTextFile(path).catch(() => "");
  const [screen, log] = await Promise.all([read(spec.consoleLogPath), read(spec.vmmLogPath)]);
  const version = /with libkrun ([^,]+),/.exec(log)?.[1] ?? "";
  if (ended && screen.includes("Kernel panic")) {
    return { usable: true, version, why: "a probe boot with it worked", fix: "" };
  }
  const told = /^ {2}why: (.*)$/m.exec(log)?.[1];
  if (told !== undefined) {
    const fix = /^ {2}fix: (.*)$/m.exec(log)?.[1] ?? "run `gateway build libkrun`";
    return { usable: false, version, why: told, fix };
  }
  const how = ended
    ? `ended with ${ended.signal ?? `code ${ended.code}`}`
    : `did not end within ${timeoutMs / 1000} s`;
  // Without the time and the module that libkrun's logger puts before each line.
  const words = (log.trim().split("\n").at(-1) ?? "").replace(/^\[[^\]]*\] /, "");
  return {
    usable: false,
    version,
    why: `a probe boot with libkrun ${version} ${how}${words === "" ? "" : `: ${words}`}`.slice(
      0,
      400,
    ),
    fix: "run it on a host whose hardware virtualization works, or pass --vmm qemu",
  };
}

/** For those who asked for this driver and no other. */
export function unusableLibkrun(why: string, fix: string): GatewayError {
  return new GatewayError({
    code: "vmm-missing",
    what: `Cannot use --vmm "libkrun"`,
    why,
    fix,
  });
}
