/**
 * An instance that this program boots for itself, to build golden state: in a private home, with sockets of its own.
 * It must not touch anything of the user's instances, kubeconfigs or client files.
 *
 * @module
 */
import { basename, dirname, join } from "@std/path";
import { freeLoopbackPort, LOOPBACK } from "../../net/forward.ts";
import { guestArch } from "../../vm/base/arch.ts";
import { abortError, describeError, GatewayError } from "../../vm/base/error.ts";
import {
  cacheDir,
  ensurePrivateDir,
  ensureRuntimeDir,
  type InstancePaths,
  instancePaths,
  runtimeDir,
} from "../../vm/base/layout.ts";
import { run, type RunResult } from "../../vm/base/process.ts";
import { waitFor } from "../../vm/base/wait.ts";
import { endLeftovers, type InstanceConfig } from "../../vm/instance/instance.ts";
import { endAtOnce, processesWith } from "../../vm/instance/leftovers.ts";
import { readRun } from "../../vm/instance/record.ts";
import { DEMO, loadPayload } from "../payload/choose.ts";
import { hostFacts, resolveOptions } from "../plan/options.ts";
import { startDetached } from "../run/detach.ts";
import { selfCommand } from "../run/self.ts";
import { askSupervisor } from "../run/requests.ts";
import { ownerEnv } from "./owner.ts";

/** What a start takes beside the payload's own bound. */
const UP_TIMEOUT_MS = 5 * 60_000;
const COMMAND_TIMEOUT_MS = 4 * 60_000;
const NAME = "golden";

/** A private home with one instance; disposing ends the instance and removes the home. */
export class PrivateGateway implements AsyncDisposable {
  readonly paths: InstancePaths;

  private constructor(
    private readonly home: string,
    private readonly sockets: string,
    private readonly env: Record<string, string>,
    private readonly signal: AbortSignal,
  ) {
    this.paths = instancePaths(NAME, (name) => env[name] ?? Deno.env.get(name));
  }

  /** Makes the home, without what an earlier one left there or running. */
  static async make(home: string, signal: AbortSignal): Promise<PrivateGateway> {
    await removePrivateHome(home);
    await ensurePrivateDir(home);
    const sockets = join(runtimeDir(), `g-${crypto.randomUUID().slice(0, 6)}`);
    await ensureRuntimeDir();
    await ensurePrivateDir(sockets);
    return new PrivateGateway(home, sockets, privateEnv(home, sockets), signal);
  }

  /**
   * Boots the instance cold.
   *
   * @throws GatewayError `service-not-ready` as the instance says it; `build-failed` with its words for the rest.
   */
  async up(config: InstanceConfig): Promise<void> {
    const { service, dir } = await loadPayload(config.payload);
    const { cpus, memoryMiB, stateMiB, vmm, clusterBinary, egress, allowNets } = config;
    const arch = guestArch(config);
    const hostPort = freeLoopbackPort();
    const request = {
      ...{ name: NAME, cold: true, assumeYes: false, kubeApi: false },
      ...{ cpus, memoryMiB, stateMiB, vmm, arch, egress, allowNets },
      ports: [{ address: LOOPBACK, hostPort, guestPort: service.nodePort }],
      // A home of its own does not have the user's pinned payload.
      payload: config.payload === DEMO ? DEMO : dir,
      clusterBinary: clusterBinary ?? undefined,
    };
    const timeoutMs = UP_TIMEOUT_MS + service.health.timeoutSeconds * 1000;
    try {
      await startDetached(resolveOptions(request, hostFacts()), {
        env: { ...this.env, ...ownerEnv() },
        signal: AbortSignal.any([this.signal, AbortSignal.timeout(timeoutMs)]),
        onEvent: () => {},
      });
    } catch (error) {
      throw this.signal.aborted ? abortError(this.signal) : failedUp(error);
    }
  }

  /** Runs one command in the guest. */
  async exec(...words: string[]): Promise<RunResult> {
    return await this.gateway(["exec", "--name", NAME, "--", ...words]);
  }

  /** Copies one file; the guest's side is given as its path there. */
  async fetch(guestPath: string, hostPath: string): Promise<void> {
    await this.gateway(["cp", `${NAME}:${guestPath}`, hostPath]);
  }

  /** The other way. */
  async send(hostPath: string, guestPath: string): Promise<void> {
    await this.gateway(["cp", hostPath, `${NAME}:${guestPath}`]);
  }

  /** Powers the guest off cleanly. */
  async down(): Promise<void> {
    await this.gateway(["down", NAME]);
  }

  /** Ends the VMM without a word to the guest. */
  async discard(): Promise<void> {
    await askSupervisor(this.paths, { do: "discard" }, this.signal);
    await waitFor({
      what: "the end of the golden instance",
      probe: async () => (await readRun(this.paths)) === undefined || undefined,
      timeoutMs: COMMAND_TIMEOUT_MS,
      signal: this.signal,
    });
  }

  async gateway(args: readonly string[]): Promise<RunResult> {
    return await this.run(args, { check: true, timeoutMs: COMMAND_TIMEOUT_MS });
  }

  async run(
    args: readonly string[],
    options: { readonly check: boolean; readonly timeoutMs: number },
  ): Promise<RunResult> {
    const self = selfCommand(args);
    return await run(self.program, {
      args: self.args,
      env: { ...this.env, ...ownerEnv() },
      ...options,
      signal: this.signal.aborted ? undefined : this.signal,
      code: "build-failed",
      what: `Cannot run "gateway ${args[0]}" for the golden state`,
      fix: "start without it: gateway up --cold",
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      if (await readRun(this.paths)) await this.gateway(["rm", "--force", NAME]);
    } catch {
      // Whatever still runs is ended below, or by the next build.
    }
    await removePrivateHome(this.home);
    await Deno.remove(this.sockets, { recursive: true }).catch(() => {});
  }
}

/**
 * Ends what a build that was killed left running in its private home, and removes the home and its sockets. Only for
 * the holder of the build's lock.
 */
export async function removePrivateHome(home: string): Promise<void> {
  const paths = instancePaths(NAME, (name) => privateEnv(home, home)[name]);
  const run = await readRun(paths).catch(() => undefined);
  // Those first that would start others: the command, its supervisor. The guest has nothing to lose.
  await endAtOnce(await processesWith(`XDG_DATA_HOME=${privateEnv(home, home).XDG_DATA_HOME}`));
  if (run !== undefined && run !== "unreadable") {
    await endLeftovers(run);
    await removeSockets(run.runtimeDir);
  }
  await Deno.remove(home, { recursive: true }).catch(() => {});
}

/** A record is only text: nothing but a folder that {@linkcode PrivateGateway.make} makes is removed. */
async function removeSockets(instanceRuntimeDir: string): Promise<void> {
  const sockets = dirname(dirname(instanceRuntimeDir));
  if (dirname(sockets) !== runtimeDir() || !/^g-[0-9a-f]{6}$/.test(basename(sockets))) return;
  try {
    await ensurePrivateDir(runtimeDir());
    await Deno.remove(sockets, { recursive: true });
  } catch {
    // Gone already, or not a folder of ours.
  }
}

/** What a start that failed tells whoever builds. */
function failedUp(error: unknown): unknown {
  if (error instanceof GatewayError && error.code === "service-not-ready") return error;
  return new GatewayError({
    code: "build-failed",
    what: "Cannot boot an instance for the golden state",
    why: error instanceof GatewayError ? `${error.what}: ${error.why}` : describeError(error),
    fix: "start without it: gateway up --cold",
    cause: error,
  });
}

/** Homes and sockets of its own; only the artifact cache and Deno's are shared. */
function privateEnv(home: string, sockets: string): Record<string, string> {
  const userHome = Deno.env.get("HOME") ?? "/";
  return {
    HOME: home,
    XDG_DATA_HOME: join(home, "data"),
    XDG_CONFIG_HOME: join(home, "config"),
    XDG_RUNTIME_DIR: sockets,
    XDG_CACHE_HOME: join(cacheDir(), ".."),
    DENO_DIR: Deno.env.get("DENO_DIR") ?? join(userHome, ".cache", "deno"),
  };
}
