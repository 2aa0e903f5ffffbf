/**
 * `gateway doctor`: each thing a start depends on, looked at on this host, with what was found and its fix.
 * It must not change the host or start an instance.
 *
 * @module
 */
import { kernelFile, kernelRecipe } from "../../kernel/kernel.ts";
import { SSH_TOOL } from "../../net/ssh.ts";
import { defaultSuite } from "../../rootfs/pins/lock.ts";
import {
  BASE_MAX_AGE_DAYS,
  baseAgeDays,
  knownBase,
  rootBaseRecipe,
} from "../../rootfs/root/root_base.ts";
import { hostArch } from "../../vm/base/arch.ts";
import { describeError, GatewayError } from "../../vm/base/error.ts";
import type { Span } from "../../vm/base/event.ts";
import { installCommand, missingTools } from "../../vm/base/host_tools.ts";
import { cacheDir, dataDir, runtimeDir, socketPath } from "../../vm/base/layout.ts";
import { run, which } from "../../vm/base/process.ts";
import { candidateAccelerator } from "../../vm/machine/accelerator.ts";
import { qemuTool, QemuVmm } from "../../vm/qemu/driver.ts";
import { ArtifactStore } from "../../vm/store/artifact.ts";
import { REFRESH_COMMAND } from "../artifacts/ensure.ts";
import { libkrunDriver } from "../plan/choose_vmm.ts";
import { hostFacts } from "../plan/options.ts";
import { type MacFacts, macFacts, macFault, macText } from "./mac.ts";

/** One finding. */
export interface HostCheck {
  /** What was looked at, such as "memory". */
  readonly name: string;
  /** `fail` keeps a start from working, `warn` makes it slow or tight. */
  readonly outcome: "ok" | "warn" | "fail";
  /** The observed fact. */
  readonly found: string;
  /** What to do; "" when nothing. */
  readonly fix: string;
  /** How long the look took. */
  readonly tookMs: number;
}

type Finding = Omit<HostCheck, "name" | "tookMs">;
type Check = (span: Span, signal: AbortSignal) => Promise<Finding>;

const ok = (found: string) => ({ outcome: "ok" as const, found, fix: "" });

let mac: Promise<MacFacts> | undefined;

/** Two checks ask: the Mac's programs are run once. */
const thisMac = () => mac ??= macFacts();

const CHECKS: Readonly<Record<string, Check>> = {
  "host": async () => {
    const host = `${Deno.build.os} ${Deno.build.arch}, kernel ${Deno.osRelease()}`;
    return ok(Deno.build.os === "darwin" ? `${macText(await thisMac())}; ${host}` : host);
  },
  "memory": () => {
    const { memoryMiB, cpus } = hostFacts();
    const enough = memoryMiB >= 4096;
    return Promise.resolve({
      outcome: enough ? "ok" : "warn",
      found: `${memoryMiB} MiB, ${cpus} CPUs`,
      fix: enough
        ? ""
        : "a cluster wants 2 GiB of its own: pass --memory 1536 and close other programs",
    });
  },
  "disk": checkDisk,
  "sockets": () => Promise.resolve(ok(socketPath(runtimeDir(), "vm/control"))),
  "ssh": () => {
    const found = which("ssh");
    return Promise.resolve(
      found ? ok(found) : {
        outcome: "fail",
        found: "there is no ssh",
        fix: `run: ${installCommand([SSH_TOOL])}`,
      },
    );
  },
  "virtualization": checkVirtualization,
  "libkrun": checkLibkrun,
  "qemu": checkQemu,
  "root image": checkRootImage,
  "build tools": checkBuildTools,
};

/** Runs every check; a check that throws becomes a failed one. */
export async function doctor(span: Span, signal: AbortSignal): Promise<HostCheck[]> {
  const results: HostCheck[] = [];
  for (const [name, check] of Object.entries(CHECKS)) {
    const startedMs = performance.now();
    const finding = await looked(() => check(span, signal), signal);
    results.push({ name, ...finding, tookMs: Math.round(performance.now() - startedMs) });
  }
  return results;
}

async function looked(check: () => Promise<Finding>, signal: AbortSignal): Promise<Finding> {
  try {
    return await check();
  } catch (error) {
    if (signal.aborted) throw error;
    if (error instanceof GatewayError) {
      return { outcome: "fail", found: `${error.what}: ${error.why}`, fix: error.fix };
    }
    return {
      outcome: "fail",
      found: describeError(error),
      fix: "if a second try says the same, paste `gateway doctor --report` into a report",
    };
  }
}

/** A cold build of everything needs about this much, and what the program brings along when it is unpacked. */
const [BUILD_GIB, UNPACKED_GIB] = [15, 5];

/** Whether the program's own file has what would have to be built: it has the kernel with all the rest, or nothing. */
async function bringsAll(): Promise<boolean> {
  return await new ArtifactStore().brings(await kernelRecipe(hostArch()));
}

async function checkDisk(): Promise<Finding> {
  const folders = await Promise.all([cacheDir(), dataDir()].map(existingParent));
  // POSIX's form, which every system's df knows: blocks of 1024 bytes, the free ones fourth.
  const { stdout } = await run("df", { args: ["-kP", ...folders] });
  const lines = stdout.trim().split("\n").slice(1);
  const freeGiB = Math.floor(
    Math.min(...lines.map((line) => Number(/^.* \d+ +\d+ +(\d+) +\d+% /.exec(line)![1]))) / 2 ** 20,
  );
  const [what, needed] = await bringsAll() ? ["start", UNPACKED_GIB] : ["build", BUILD_GIB];
  const enough = freeGiB >= needed;
  return {
    outcome: enough ? "ok" : "warn",
    found: `${freeGiB} GiB free for the cache and the instances`,
    fix: enough
      ? ""
      : `a first ${what} needs about ${needed} GiB: free some, or set XDG_CACHE_HOME`,
  };
}

async function existingParent(path: string): Promise<string> {
  for (let at = path; at !== "/"; at = at.slice(0, at.lastIndexOf("/")) || "/") {
    if (await Deno.stat(at).then(() => true, () => false)) return at;
  }
  return "/";
}

/** The kernel that a probe boots, unpacked if the program brings it; undefined before it is built. */
async function builtKernel(span: Span, signal: AbortSignal): Promise<string | undefined> {
  const [store, recipe] = [new ArtifactStore(), await kernelRecipe(hostArch())];
  // One that was changed is told, where find() alone would throw it out.
  const kernel = await store.lookup(recipe) ?? await store.find(recipe, { span, signal });
  return kernel && kernelFile(kernel).path;
}

async function checkVirtualization(): Promise<Finding> {
  const fault = Deno.build.os === "darwin" ? macFault(await thisMac()) : undefined;
  if (fault) return { outcome: "fail", ...fault };
  const found = await candidateAccelerator();
  if (typeof found !== "string") return { outcome: "warn", found: found.why, fix: found.fix };
  const word = found === "kvm" ? "/dev/kvm opens" : "Hypervisor.framework is part of macOS";
  return ok(`${word}; whether it works is what the probe boots below tell`);
}

async function checkLibkrun(span: Span, signal: AbortSignal): Promise<Finding> {
  const kernelPath = await builtKernel(span, signal);
  if (kernelPath === undefined) return unprobed("libkrun is tried");
  const check = await (await libkrunDriver(kernelPath)).check({ span, signal });
  if (check.usable) return ok(`${check.description}: ${check.why}; a start takes it`);
  return { outcome: "warn", found: `not used: ${check.why}`, fix: check.fix };
}

const unprobed = (what: string): Finding => ({
  outcome: "warn",
  found: `${what} once the kernel is built`,
  fix: "run `gateway build kernel`",
});

async function checkQemu(span: Span, signal: AbortSignal): Promise<Finding> {
  const tool = qemuTool(hostArch());
  const program = which(tool.program);
  if (program === undefined) {
    const found = `${tool.program} is not on this host`;
    const install = installCommand([tool]);
    // A Mac starts with libkrun.
    return Deno.build.os === "darwin"
      ? { outcome: "warn", found, fix: `only --vmm qemu needs it: ${install}` }
      : { outcome: "fail", found, fix: `run: ${install}` };
  }
  const kernelPath = await builtKernel(span, signal);
  if (kernelPath === undefined) return unprobed(`${program}; hardware virtualization is tried`);
  const check = await new QemuVmm({ kernelPath, cacheDir: cacheDir() }).check({ span, signal });
  const slow = check.accelerator === "tcg";
  return {
    outcome: check.usable ? (slow ? "warn" : "ok") : "fail",
    found: `${check.description}: ${check.why}`,
    fix: check.fix,
  };
}

/** How old the packages of the root image are; no network is asked. */
async function checkRootImage(): Promise<Finding> {
  const recipe = rootBaseRecipe({ suite: defaultSuite, arch: hostArch() });
  const { record } = await knownBase(new ArtifactStore(), recipe);
  if (!record) return ok("its packages are fetched by the first start");
  const found = `Debian packages of ${record.builtAt.slice(0, 10)}`;
  if (baseAgeDays(record) < BASE_MAX_AGE_DAYS) return ok(found);
  return {
    outcome: "warn",
    found: `${found}: ${baseAgeDays(record)} days old`,
    fix: `run \`${REFRESH_COMMAND}\``,
  };
}

async function checkBuildTools(): Promise<Finding> {
  if (await bringsAll()) return ok("none needed: this file brings what would be built");
  if (Deno.build.os !== "linux") {
    return {
      outcome: "fail",
      found: "guests are built on Linux only",
      fix: "use a file that brings one: deno task compile --target darwin-arm64 --embed, on Linux",
    };
  }
  const recipe = await kernelRecipe(hostArch());
  const missing = missingTools([...recipe.tools, { program: "go", debian: "golang-go" }]);
  if (missing.length === 0) return ok("all there");
  return {
    outcome: "warn",
    found: `missing: ${missing.map((tool) => tool.program).join(", ")} (only builds need them)`,
    fix: `run: ${installCommand(missing)}`,
  };
}

/**
 * One block to paste into a report: the program, what was found with the time it took, and nothing of the user's but the
 * paths of their folders, in which `~` stands for their home. Pure.
 */
export function reportText(
  version: string,
  checks: readonly HostCheck[],
  home: string | undefined,
): string {
  const lines = checks.map(({ name, outcome, found, tookMs }) =>
    `${outcome.padEnd(5)} ${name} (${tookMs} ms): ${found}`
  );
  const text = [version, ...lines].join("\n");
  const shown = home && home !== "/" ? text.replaceAll(home, "~") : text;
  return "```\n" + shown + "\n```";
}

/** `gateway doctor`. */
export function doctorText(checks: readonly HostCheck[]): string {
  return checks.map(({ outcome, name, found, fix }) => {
    const line = `${outcome.padEnd(5)} ${name}: ${found}`;
    return fix === "" ? line : `${line}\n      fix: ${fix}`;
  }).join("\n");
}
