/**
 * Builds a golden state: a whole instance of its own in a private home, booted by this very program, saved when it is
 * quiet, and thrown away.
 * It must not touch anything of the user's instances, kubeconfigs or client files.
 *
 * @module
 */
import { join } from "@std/path";
import { chainFiles } from "../vm/disk_chain.ts";
import { GatewayError } from "../vm/error.ts";
import type { Span } from "../vm/event.ts";
import type { InstanceConfig } from "../vm/instance.ts";
import {
  cacheDir,
  ensurePrivateDir,
  type InstancePaths,
  instancePaths,
  runtimeDir,
  writeFileAtomic,
} from "../vm/layout.ts";
import { run } from "../vm/process.ts";
import { readState, type SavedState, snapshotRecord, writeState } from "../vm/saved_state.ts";
import { waitFor } from "../vm/wait.ts";
import { readRun } from "../vm/instance.ts";
import { selfCommand } from "./self.ts";
import { askSupervisor } from "./supervisor.ts";

const UP_TIMEOUT_MS = 15 * 60_000;
const COMMAND_TIMEOUT_MS = 3 * 60_000;
const QUIET_TIMEOUT_MS = 3 * 60_000;
const QUIET_WINDOW_MS = 3000;
/** A cluster that uses less than this of one core has nothing left to do of its start. */
const QUIET_CPU = 0.6;
const NAME = "golden";

/** What a build needs. */
export interface GoldenBuildOptions {
  readonly config: InstanceConfig;
  readonly key: string;
  readonly span: Span;
  readonly signal: AbortSignal;
}

/**
 * Boots, waits, saves; leaves the files and the record in `dir`, or nothing.
 *
 * @throws GatewayError `build-failed`, `disk-full`, or the signal's reason.
 */
export async function buildGolden(
  dir: string,
  record: string,
  options: GoldenBuildOptions,
): Promise<SavedState> {
  const { span, signal } = options;
  const home = `${dir}.build`;
  await Deno.remove(home, { recursive: true }).catch(() => {});
  await ensurePrivateDir(home);
  const sockets = join(runtimeDir(), `g-${crypto.randomUUID().slice(0, 6)}`);
  const env = privateEnv(home, sockets);
  const paths = instancePaths(NAME, (name) => env[name] ?? Deno.env.get(name));
  try {
    await ensurePrivateDir(runtimeDir());
    await ensurePrivateDir(sockets);
    await span.run("boot", () => gateway(upArgs(options.config), env, UP_TIMEOUT_MS, signal));
    await span.run("quiet", () => waitQuiet(paths, env, signal));
    const { stdout } = await gateway(
      ["exec", "--name", NAME, "--", "cat", "/etc/rancher/k3s/k3s.yaml"],
      env,
      COMMAND_TIMEOUT_MS,
      signal,
    );
    await span.run(
      "save",
      () => askSupervisor(paths, { do: "snapshot", name: NAME, ramDir: null }, signal),
    );
    await askSupervisor(paths, { do: "discard" }, signal);
    await waitFor({
      what: "the end of the golden instance",
      probe: async () => (await readRun(paths)) === undefined || undefined,
      timeoutMs: COMMAND_TIMEOUT_MS,
      signal,
    });
    return await keep(paths, dir, record, stdout, options);
  } finally {
    await endRun(paths, env);
    for (const path of [sockets, home]) {
      await Deno.remove(path, { recursive: true }).catch(() => {});
    }
  }
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

function upArgs(config: InstanceConfig): string[] {
  using probe = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = probe.addr as Deno.NetAddr;
  return [
    ...["up", "--detach", "--cold", "--no-kube-api", "--name", NAME],
    ...["--port", `127.0.0.1:${port}:30051`, "--cpus", String(config.cpus)],
    ...["--memory", String(config.memoryMiB), "--disk", String(config.stateMiB)],
    ...["--payload", config.payload, "--vmm", config.vmm],
    ...(config.clusterBinary === null ? [] : ["--cluster-binary", config.clusterBinary]),
  ];
}

async function gateway(
  args: readonly string[],
  env: Record<string, string>,
  timeoutMs: number,
  signal?: AbortSignal,
) {
  const self = selfCommand(args);
  return await run(self.program, {
    args: self.args,
    env,
    timeoutMs,
    signal,
    code: "build-failed",
    what: `Cannot run "gateway ${args[0]}" for the golden state`,
    fix: "start without it: gateway up --cold",
  });
}

/** Every pod is ready, and the VMM has been idle for a while: what is saved now need not be done again by anybody. */
async function waitQuiet(
  paths: InstancePaths,
  env: Record<string, string>,
  signal: AbortSignal,
): Promise<void> {
  await gateway(
    [
      ...["exec", "--name", NAME, "--", "kubectl", "wait", "--for=condition=Ready"],
      ...["pods", "--all", "-A", "--timeout=150s"],
    ],
    env,
    COMMAND_TIMEOUT_MS,
    signal,
  );
  const pid = (await readRun(paths))?.vmm?.pid;
  let before = { ticks: await cpuTicks(pid), atMs: performance.now() };
  await waitFor({
    what: "a cluster without work",
    probe: async () => {
      const now = { ticks: await cpuTicks(pid), atMs: performance.now() };
      if (now.atMs - before.atMs < QUIET_WINDOW_MS / 2) return undefined;
      // USER_HZ is 100 on every Linux that Deno runs on.
      const busy = (now.ticks - before.ticks) * 10 / (now.atMs - before.atMs);
      before = now;
      if (busy > QUIET_CPU) throw new Error(`it uses ${Math.round(busy * 100)} % of a core`);
      return true;
    },
    timeoutMs: QUIET_TIMEOUT_MS,
    intervalMs: QUIET_WINDOW_MS,
    signal,
  }).catch((error) => {
    // A host with little power never sees it quiet; what is left to do is then done in each instance.
    if (!(error instanceof GatewayError) || error.code !== "timeout") throw error;
  });
}

async function cpuTicks(pid: number | undefined): Promise<number> {
  const text = await Deno.readTextFile(`/proc/${pid}/stat`).catch(() => "");
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return Number(fields[11] ?? 0) + Number(fields[12] ?? 0);
}

/** Moves what belongs to the state out of the instance's folder, and writes the record last. */
async function keep(
  paths: InstancePaths,
  dir: string,
  record: string,
  k3sYaml: string,
  options: GoldenBuildOptions,
): Promise<SavedState> {
  const saved = (await readState(snapshotRecord(paths, NAME)))!;
  await ensurePrivateDir(dir);
  const disk = { ...saved.disk!, head: { ...saved.disk!.head } };
  // No other instance may ever take it for a disk of its own that it may write.
  if (disk.head.name === "state.img") {
    disk.head.name = `disk-${crypto.randomUUID().slice(0, 8)}.raw`;
  }
  const moves: [string, string][] = [saved.devices, ...saved.ram].map(({ name }) => [name, name]);
  chainFiles(saved.disk!).forEach((name, at) => moves.push([name, chainFiles(disk)[at]]));
  for (const [from, to] of moves) await Deno.rename(join(paths.dir, from), join(dir, to));
  await Deno.rename(paths.pkiDir, join(dir, "pki"));
  await writeFileAtomic(join(dir, "k3s.yaml"), k3sYaml);
  if (saved.key !== options.key) {
    throw new GatewayError({
      code: "build-failed",
      what: "Cannot use the golden state that was just built",
      why: "its machine is another than this start's",
      fix: "run the command again; if it stays so, use `gateway up --cold` and report it",
    });
  }
  const state = { ...saved, disk };
  await writeState(record, state);
  return state;
}

async function endRun(paths: InstancePaths, env: Record<string, string>): Promise<void> {
  if ((await readRun(paths).catch(() => undefined)) === undefined) return;
  await gateway(["rm", "--force", NAME], env, COMMAND_TIMEOUT_MS).catch(() => {});
}
