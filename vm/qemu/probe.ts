/**
 * Finds out whether hardware virtualization works by booting the real kernel with it. That /dev/kvm opens
 * proves nothing: a software KVM was seen that creates VMs and then hangs for minutes.
 * It must not run more than once per host kernel, machine and guest kernel: the verdict is cached.
 *
 * @module
 */
import { join } from "@std/path";
import * as v from "valibot";
import type { Arch } from "../base/arch.ts";
import { clearedEnv } from "../base/child_env.ts";
import { digestBytes } from "../base/digest.ts";
import { writeCacheFile } from "../base/durable.ts";
import { abortError } from "../base/error.ts";
import type { Span } from "../base/event.ts";
import { spawnChild } from "../base/process.ts";
import { within } from "../base/wait.ts";
import {
  type AcceleratorVerdict,
  candidateAccelerator,
  type CandidateQuestion,
  PROBE_TIMEOUT_MS,
} from "../machine/accelerator.ts";

const Verdict = v.object({
  accelerator: v.picklist(["kvm", "hvf", "tcg"]),
  why: v.string(),
  fix: v.string(),
});

/** The machine that shows whether hardware virtualization works, and where its kernel writes. */
const MACHINES: Readonly<Record<Arch, readonly [string, string]>> = {
  amd64: ["microvm,acpi=off,pic=on,pit=on,rtc=on,isa-serial=on", "ttyS0"],
  arm64: ["virt", "ttyAMA0"],
};

interface ProbeOptions {
  /** Of host and guest. */
  readonly arch: Arch;
  readonly program: string;
  readonly version: string;
  readonly kernelPath: string;
  readonly cacheDir: string;
  /** The bound of the boot; by default {@linkcode PROBE_TIMEOUT_MS}. */
  readonly probeTimeoutMs?: number;
  /** By default {@linkcode candidateAccelerator}. */
  readonly candidate?: CandidateQuestion;
  readonly span: Span;
  readonly signal: AbortSignal;
}

/** The verdict for this host, from the cache or from one bounded probe boot. */
export async function probeAccelerator(options: ProbeOptions): Promise<AcceleratorVerdict> {
  const candidate = await (options.candidate ?? candidateAccelerator)();
  if (typeof candidate !== "string") return candidate;
  const host = [Deno.osRelease(), Deno.hostname(), Deno.build.arch, options.version];
  const kernel = await Deno.stat(options.kernelPath);
  const key = digestBytes([...host, kernel.size, kernel.mtime?.getTime(), candidate].join("\0"));
  const path = join(options.cacheDir, "probes", `${key.slice(0, 16)}.json`);
  const cached = await Deno.readTextFile(path)
    .then((text) => v.safeParse(Verdict, JSON.parse(text)))
    .catch(() => undefined);
  if (cached?.success) return cached.output;
  const verdict = await options.span.run(
    `probe ${candidate}`,
    () => probeBoot(candidate, options),
  );
  await Deno.mkdir(join(options.cacheDir, "probes"), { recursive: true });
  await writeCacheFile(path, JSON.stringify(verdict), 0o644);
  return verdict;
}

async function probeBoot(
  accelerator: "kvm" | "hvf",
  options: ProbeOptions,
): Promise<AcceleratorVerdict> {
  const [machine, serial] = MACHINES[options.arch];
  const child = spawnChild(options.program, {
    args: [
      ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"],
      ...["-machine", machine],
      ...["-accel", accelerator, "-cpu", "host", "-m", "256M", "-serial", "stdio"],
      ...["-kernel", options.kernelPath],
      // There is no root: the kernel's own panic is the sign that it came all the way up. The line of its version is a
      // notice (5) and most others are not: each letter costs an exit from the guest.
      ...["-append", `console=${serial} panic=-1 reboot=t loglevel=6`],
    ],
    ...clearedEnv(),
    stdout: "piped",
    ownGroup: true,
  });
  await using _owned = child;
  const output = new Response(child.stdout).text();
  const stop = () => void child.stop(500);
  options.signal.addEventListener("abort", stop, { once: true });
  const timeoutMs = options.probeTimeoutMs ?? PROBE_TIMEOUT_MS;
  const ended = await within(child.exited, timeoutMs);
  options.signal.removeEventListener("abort", stop);
  if (!ended) await child.stop(500);
  const text = await output;
  if (options.signal.aborted) throw abortError(options.signal);
  if (ended && text.includes("Linux version") && text.includes("Kernel panic")) {
    return { accelerator, why: "a probe boot with it worked", fix: "" };
  }
  const reached = text.includes("Linux version") ? "hung after its first lines" : "printed nothing";
  return {
    accelerator: "tcg",
    why: `a probe boot with ${accelerator.toUpperCase()} ${
      ended ? `ended with code ${ended.code}` : `${reached} for ${timeoutMs / 1000} s`
    }`,
    fix: "run it on a host whose hardware virtualization works: emulation is many times slower",
  };
}
