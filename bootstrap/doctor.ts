/**
 * `gateway doctor`: each thing a start depends on, looked at on this host, with what was found and its fix.
 * It must not change the host or start an instance.
 *
 * @module
 */
import { kernelRecipe } from "../kernel/kernel.ts";
import { SSH_TOOL } from "../net/ssh.ts";
import { ArtifactStore } from "../vm/artifact.ts";
import { describeError } from "../vm/error.ts";
import type { Span } from "../vm/event.ts";
import { installCommand, missingTools } from "../vm/host_tools.ts";
import { cacheDir, dataDir, runtimeDir, socketPath } from "../vm/layout.ts";
import { run, which } from "../vm/process.ts";
import { QEMU_TOOL, QemuVmm } from "../vm/qemu.ts";
import { hostArch } from "./artifacts.ts";
import { hostFacts } from "./options.ts";

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
}

type Check = (span: Span, signal: AbortSignal) => Promise<Omit<HostCheck, "name">>;

const ok = (found: string) => ({ outcome: "ok" as const, found, fix: "" });

const CHECKS: Readonly<Record<string, Check>> = {
  "host": () => Promise.resolve(ok(`${Deno.build.os} ${hostArch()}, kernel ${Deno.osRelease()}`)),
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
  "sockets": () => Promise.resolve(ok(socketPath(runtimeDir(), "control"))),
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
  "vmm": checkVmm,
  "build tools": checkBuildTools,
};

/** Runs every check; a check that throws becomes a failed one. */
export async function doctor(span: Span, signal: AbortSignal): Promise<HostCheck[]> {
  const results: HostCheck[] = [];
  for (const [name, check] of Object.entries(CHECKS)) {
    try {
      results.push({ name, ...await check(span, signal) });
    } catch (error) {
      if (signal.aborted) throw error;
      results.push({ name, outcome: "fail", found: describeError(error), fix: "" });
    }
  }
  return results;
}

/** A cold build of everything needs about this much. */
const BUILD_GIB = 15;

async function checkDisk(): Promise<Omit<HostCheck, "name">> {
  const folders = await Promise.all([cacheDir(), dataDir()].map(existingParent));
  const { stdout } = await run("df", { args: ["--output=avail", "-BG", ...folders] });
  const freeGiB = Math.min(...stdout.trim().split("\n").slice(1).map((line) => parseInt(line)));
  const enough = freeGiB >= BUILD_GIB;
  return {
    outcome: enough ? "ok" : "warn",
    found: `${freeGiB} GiB free for the cache and the instances`,
    fix: enough
      ? ""
      : `a first build needs about ${BUILD_GIB} GiB: free some, or set XDG_CACHE_HOME`,
  };
}

async function existingParent(path: string): Promise<string> {
  for (let at = path; at !== "/"; at = at.slice(0, at.lastIndexOf("/")) || "/") {
    if (await Deno.stat(at).then(() => true, () => false)) return at;
  }
  return "/";
}

async function checkVmm(span: Span, signal: AbortSignal): Promise<Omit<HostCheck, "name">> {
  const kernel = await new ArtifactStore().lookup(await kernelRecipe(hostArch()));
  if (!kernel) {
    const found = which(QEMU_TOOL.program);
    return {
      outcome: found ? "warn" : "fail",
      found: found
        ? `${found}; whether hardware virtualization works is tried once the kernel is built`
        : `${QEMU_TOOL.program} is not on this host`,
      fix: found ? "run `gateway build kernel`" : `run: ${installCommand([QEMU_TOOL])}`,
    };
  }
  const vmm = new QemuVmm({ kernelPath: kernel.files.vmlinux.path, cacheDir: cacheDir() });
  const check = await vmm.check({ span, signal });
  const slow = check.accelerator === "tcg";
  return {
    outcome: check.usable ? (slow ? "warn" : "ok") : "fail",
    found: `${check.description}: ${check.why}`,
    fix: check.fix,
  };
}

async function checkBuildTools(): Promise<Omit<HostCheck, "name">> {
  const recipe = await kernelRecipe(hostArch());
  const missing = missingTools([...recipe.tools, { program: "go", debian: "golang-go" }]);
  if (missing.length === 0) return ok("all there");
  return {
    outcome: "warn",
    found: `missing: ${missing.map((tool) => tool.program).join(", ")} (only builds need them)`,
    fix: `run: ${installCommand(missing)}`,
  };
}
