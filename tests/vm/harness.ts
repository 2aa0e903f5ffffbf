/**
 * What the VM tests share: a home of their own, the real command line as a process, and what to show when one fails.
 * It must not fake anything; artifacts come from the user's real cache, so that they are built once.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { fromFileUrl, join } from "@std/path";
import { readEvents } from "../../bootstrap/inspect/status.ts";
import type { EventRecord } from "../../vm/base/event.ts";
import { cacheDir } from "../../vm/base/layout.ts";
import {
  type ChildExit,
  type ChildProcess,
  run,
  type RunResult,
  spawnChild,
} from "../../vm/base/process.ts";
import { waitFor } from "../../vm/base/wait.ts";

const CLI = fromFileUrl(new URL("../../cli.ts", import.meta.url));
const CONFIG = fromFileUrl(new URL("../../deno.json", import.meta.url));

/** `gateway` as it runs from a checkout. */
export const FROM_SOURCES: readonly [string, ...string[]] = [
  Deno.execPath(),
  ...["run", "-A", "--quiet", "--no-check", "--config", CONFIG, CLI],
];

/** How one call of the command line may differ. */
export interface CallOptions {
  readonly stdin?: Uint8Array | string;
  readonly timeoutMs?: number;
  readonly env?: Readonly<Record<string, string>>;
}

/** A `gateway` that runs in the background. */
export interface Background extends AsyncDisposable {
  readonly pid: number;
  readonly exited: Promise<ChildExit>;
  /** All it said on stderr and stdout so far. */
  readonly text: () => string;
  /** Waits until its output holds the text. */
  readonly says: (text: string, timeoutMs?: number) => Promise<void>;
  readonly signal: (name: Deno.Signal) => void;
}

/** A home folder with nothing in it; disposing stops what runs there and removes it. */
export class TestHome implements AsyncDisposable {
  /** Those that were not disposed yet. */
  static readonly inUse = new Set<TestHome>();

  private constructor(
    readonly home: string,
    private readonly program: readonly [string, ...string[]],
    private readonly more: Readonly<Record<string, string>>,
    /** What is removed in the end. */
    private readonly top: string = home,
  ) {
    TestHome.inUse.add(this);
  }

  /**
   * Makes a home below the cache's own folder under another name, both with the letters that somebody's grammar owns: the
   * loader's (space, colon), QEMU's (comma), ssh's (percent) and a shell's (dollar).
   */
  static async makeOddlyNamed(): Promise<TestHome> {
    const top = await TestHome.make();
    const home = join(top.home, "ü :,%$");
    const cache = join(top.home, "c:ache d");
    for (const dir of [home, cache]) await Deno.mkdir(dir);
    await Deno.symlink(cacheDir(), join(cache, "gateway"));
    TestHome.inUse.delete(top);
    return new TestHome(home, top.program, { XDG_CACHE_HOME: cache }, top.home);
  }

  /**
   * Makes a home. `program` is the command line's first words: by default the sources' own. `more` is added to its
   * environment.
   */
  static async make(
    program = FROM_SOURCES,
    more: Readonly<Record<string, string>> = {},
  ): Promise<TestHome> {
    return new TestHome(await Deno.makeTempDir({ prefix: "gw-" }), program, more);
  }

  /** The environment every process of this home gets. */
  get env(): Record<string, string> {
    return {
      HOME: this.home,
      XDG_DATA_HOME: join(this.home, "data"),
      XDG_CONFIG_HOME: join(this.home, "config"),
      XDG_RUNTIME_DIR: join(this.home, "run"),
      XDG_CACHE_HOME: join(cacheDir(), ".."),
      DENO_DIR: Deno.env.get("DENO_DIR") ?? join(Deno.env.get("HOME") ?? "/", ".cache", "deno"),
      GATEWAY_YES: "1",
      // The same on every network.
      GATEWAY_PAYLOAD: "demo",
      // These tests look at QEMU's processes and suspend; libkrun has tests/nested. Naming a library that is not
      // there keeps a host on which libkrun works from taking it.
      GATEWAY_LIBKRUN: "/nowhere/libkrun.so",
      NO_COLOR: "1",
      ...this.more,
    };
  }

  #args(args: readonly string[]): string[] {
    return [...this.program.slice(1), ...args];
  }

  /** The program and arguments of `gateway ARGS…`, for who starts it through another program. */
  words(args: readonly string[]): string[] {
    return [Deno.execPath(), ...this.#args(args)];
  }

  /** Runs `gateway ARGS…` to its end. */
  async call(args: readonly string[], options: CallOptions = {}): Promise<RunResult> {
    await Deno.mkdir(join(this.home, "run"), { recursive: true });
    return await run(this.program[0], {
      args: this.#args(args),
      env: { ...this.env, ...options.env },
      stdin: options.stdin,
      check: false,
      timeoutMs: options.timeoutMs ?? 120_000,
    });
  }

  /** Runs `gateway ARGS…` and insists on exit code 0. */
  async ok(args: readonly string[], options: CallOptions = {}): Promise<RunResult> {
    const result = await this.call(args, options);
    assertEquals(result.code, 0, `gateway ${args.join(" ")}:\n${result.stderr}${result.stdout}`);
    return result;
  }

  /** Starts `gateway ARGS…` and leaves it running. */
  async start(args: readonly string[]): Promise<Background> {
    await Deno.mkdir(join(this.home, "run"), { recursive: true });
    const child = spawnChild(this.program[0], {
      args: this.#args(args),
      env: this.env,
      stdout: "piped",
      stderr: "piped",
      ownGroup: true,
    });
    let text = "";
    const read = async (stream: ReadableStream<Uint8Array>) => {
      for await (const piece of stream.pipeThrough(new TextDecoderStream() as never)) text += piece;
    };
    const reading = Promise.all([read(child.stdout!), read(child.stderr!)]);
    return background(child, () => text, reading);
  }

  /** The records of an instance's last start, in order. */
  async events(name: string): Promise<EventRecord[]> {
    return await readEvents(join(this.home, "data/gateway/instances", name, "events.jsonl"));
  }

  /** Everything below this home that a run must not leave: sockets, run records, temporary folders. */
  async leftovers(): Promise<string[]> {
    const found: string[] = [];
    const walk = async (dir: string) => {
      try {
        for await (const entry of Deno.readDir(dir)) {
          const path = join(dir, entry.name);
          const plain = entry.isFile || entry.isDirectory || entry.isSymlink;
          if (!plain || /^(run\.json|up-.*|exec-.*)$|\.tmp-/.test(entry.name)) found.push(path);
          if (entry.isDirectory) await walk(path);
        }
      } catch {
        // Gone meanwhile.
      }
    };
    await walk(this.home);
    return found;
  }

  /** Processes that have this home in their command line, `length` letters of each: VMs, gvproxy, supervisors. */
  processes(length = 220): string[] {
    const found: string[] = [];
    for (const entry of Deno.readDirSync("/proc")) {
      if (!/^\d+$/.test(entry.name)) continue;
      try {
        const line = Deno.readTextFileSync(`/proc/${entry.name}/cmdline`).replaceAll("\0", " ");
        if (line.includes(this.top)) found.push(`${entry.name} ${line.slice(0, length)}`);
      } catch {
        // Gone meanwhile.
      }
    }
    return found;
  }

  /** Waits until no process of this home is left. */
  async allEnded(timeoutMs = 60_000): Promise<void> {
    await waitFor({
      what: "the end of this home's processes",
      probe: () => Promise.resolve(this.processes().length === 0 || undefined),
      timeoutMs,
      intervalMs: 200,
    });
  }

  /** Insists that nothing of a run is left. */
  async assertClean(): Promise<void> {
    assertEquals([this.processes(), await this.leftovers()], [[], []]);
  }

  /** What to read when an instance's test fails: the console's tail and the timeline. */
  async evidence(name: string): Promise<string> {
    const dir = join(this.home, "data/gateway/instances", name);
    const consoleLog = await Deno.readTextFile(join(dir, "console.log")).catch(() => "(none)");
    const timeline = await this.call(["status", "--name", name, "--timeline"]);
    const log = await this.call([
      "exec",
      "--name",
      name,
      "--",
      "tail",
      "-n",
      "30",
      "/var/log/k3s.log",
    ], {
      timeoutMs: 30_000,
    }).catch(() => undefined);
    return [
      "--- console",
      consoleLog.split("\n").slice(-30).join("\n"),
      "--- timeline",
      timeline.stdout,
      "--- cluster log",
      log?.stdout ?? "(none)",
    ].join("\n");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { stdout } = await this.call(["list", "--json"]);
    for (const { name } of JSON.parse(stdout || "[]") as { name: string }[]) {
      await this.call(["rm", "--force", name]);
    }
    await Deno.remove(this.top, { recursive: true }).catch(() => {});
    TestHome.inUse.delete(this);
  }
}

function background(
  child: ChildProcess,
  text: () => string,
  reading: Promise<unknown>,
): Background {
  let ended = false;
  void child.exited.then(() => ended = true);
  return {
    pid: child.pid,
    exited: child.exited,
    text,
    signal: (name) => {
      if (ended) throw new Error(`it has ended already; it said: ${text().slice(-1500)}`);
      Deno.kill(child.pid, name);
    },
    says: async (wanted, timeoutMs = 120_000) => {
      await waitFor({
        what: `"${wanted}" in the output`,
        probe: () => {
          if (text().includes(wanted)) return Promise.resolve(true);
          if (ended) throw new Error(`it ended before; it said: ${text().slice(-1500)}`);
          return Promise.resolve(undefined);
        },
        timeoutMs,
      });
    },
    async [Symbol.asyncDispose]() {
      await child[Symbol.asyncDispose]();
      await reading.catch(() => {});
    },
  };
}

export { freeLoopbackPort as freePort } from "../../net/forward.ts";

/** Runs a test and adds the instance's evidence to its error. */
export async function withEvidence<T>(
  home: TestHome,
  name: string,
  fn: () => Promise<T>,
): Promise<T> {
  try {
    return await fn();
  } catch (error) {
    const text = await home.evidence(name).catch((inner) => String(inner));
    throw new Error(`${error instanceof Error ? error.stack : error}\n${text}`);
  }
}
