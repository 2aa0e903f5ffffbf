/**
 * A user of their own for the real command line: private home, data, cache, config and runtime folders, and what is
 * left in them and on the process table afterwards.
 * It must not reach the folders of whoever runs the tests.
 *
 * @module
 */
import { fromFileUrl, join, relative } from "@std/path";
import { type InstancePaths, instancePaths } from "../vm/base/layout.ts";
import { type ChildProcess, run, type RunResult, spawnChild } from "../vm/base/process.ts";

const CLI = fromFileUrl(new URL("../cli.ts", import.meta.url));
const CONFIG = fromFileUrl(new URL("../deno.json", import.meta.url));

/** Deno keeps its own cache below XDG_CACHE_HOME, which the sandbox moves. */
let denoDir: Promise<string> | undefined;

async function findDenoDir(): Promise<string> {
  const { stdout } = await run(Deno.execPath(), { args: ["info", "--json"], timeoutMs: 30_000 });
  return JSON.parse(stdout).denoDir;
}

/** Arguments of deno that run one of our programs. */
export function denoArgs(script: string, args: readonly string[]): string[] {
  return ["run", "-A", "--quiet", "--config", CONFIG, script, ...args];
}

/** The environment of a private user. */
interface UserEnv extends Readonly<Record<string, string>> {
  readonly HOME: string;
  readonly XDG_DATA_HOME: string;
  readonly XDG_CACHE_HOME: string;
  readonly XDG_CONFIG_HOME: string;
  readonly XDG_RUNTIME_DIR: string;
  readonly DENO_DIR: string;
}

/** One private user. Disposing removes its folders; processes are the test's own to end. */
export class Sandbox implements AsyncDisposable {
  private constructor(
    /** Holds all the other folders. */
    readonly top: string,
    /** What a program of this user needs in its environment. */
    readonly env: UserEnv,
  ) {}

  /** Makes the folders. */
  static async make(): Promise<Sandbox> {
    // Short, since sockets live below it.
    const top = await Deno.makeTempDir({ prefix: "gw-" });
    const folders = {
      HOME: join(top, "home"),
      XDG_DATA_HOME: join(top, "data"),
      XDG_CACHE_HOME: join(top, "cache"),
      XDG_CONFIG_HOME: join(top, "config"),
      XDG_RUNTIME_DIR: join(top, "run"),
    };
    for (const path of Object.values(folders)) await Deno.mkdir(path, { mode: 0o700 });
    denoDir ??= findDenoDir();
    const DENO_DIR = await denoDir;
    return new Sandbox(top, {
      ...folders,
      DENO_DIR,
      NO_COLOR: "1",
      GATEWAY_YES: "",
      KUBECONFIG: "",
      // The same everywhere: no registry is reached, whatever network this host is on.
      HTTPS_PROXY: "http://127.0.0.1:1",
      NO_PROXY: "127.0.0.1,localhost",
    });
  }

  /** The same user with more in the environment; the folders stay this one's to remove. */
  with(env: Readonly<Record<string, string>>): Sandbox {
    return new Sandbox(this.top, { ...this.env, ...env });
  }

  /** Runs `gateway ARGS…` to its end; a bound keeps one that should have failed from building. */
  gateway(
    args: readonly string[],
    { env, ...options }: {
      readonly stdin?: string;
      readonly env?: Readonly<Record<string, string>>;
    } = {},
  ): Promise<RunResult> {
    return run(Deno.execPath(), {
      args: denoArgs(CLI, args),
      env: { ...this.env, ...env },
      check: false,
      timeoutMs: 30_000,
      ...options,
    });
  }

  /** Starts `gateway ARGS…`, or another program of ours, and leaves it running. */
  start(args: readonly string[], script: string = CLI): ChildProcess {
    return spawnChild(Deno.execPath(), {
      args: denoArgs(script, args),
      env: this.env,
      stdout: "piped",
      stderr: "piped",
      ownGroup: true,
    });
  }

  /** The paths of this user's instance. */
  paths(name: string): InstancePaths {
    return instancePaths(name, (variable) => this.env[variable]);
  }

  /** Everything but folders below the private ones, relative to {@linkcode top}. */
  async files(): Promise<string[]> {
    const found: string[] = [];
    const walk = async (dir: string) => {
      for await (const entry of Deno.readDir(dir)) {
        const path = join(dir, entry.name);
        if (entry.isDirectory) await walk(path);
        else found.push(relative(this.top, path));
      }
    };
    await walk(this.top);
    return found.sort();
  }

  /** Folders that were made below the private ones. */
  async folders(): Promise<string[]> {
    const found: string[] = [];
    const walk = async (dir: string, depth: number) => {
      for await (const entry of Deno.readDir(dir)) {
        if (!entry.isDirectory) continue;
        const path = join(dir, entry.name);
        if (depth > 0) found.push(relative(this.top, path));
        await walk(path, depth + 1);
      }
    };
    await walk(this.top, 0);
    return found.sort();
  }

  /** Processes that were started with this user's environment and still run, as their command lines. */
  async processes(): Promise<string[]> {
    const found: string[] = [];
    for await (const entry of Deno.readDir("/proc")) {
      if (!/^\d+$/.test(entry.name)) continue;
      const environ = await Deno.readTextFile(`/proc/${entry.name}/environ`).catch(() => "");
      if (!environ.includes(this.top)) continue;
      const command = await Deno.readTextFile(`/proc/${entry.name}/cmdline`).catch(() => "");
      if (command !== "") found.push(command.replaceAll("\0", " ").trim());
    }
    return found;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.top, { recursive: true });
  }
}

/** Runs a few at a time: the starts are what takes the time, and the machine has other work. */
export async function inTurns<T>(
  items: readonly T[],
  fn: (item: T) => Promise<void>,
): Promise<void> {
  const queue = [...items];
  const worker = async () => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) await fn(item);
  };
  await Promise.all([worker(), worker(), worker()]);
}
