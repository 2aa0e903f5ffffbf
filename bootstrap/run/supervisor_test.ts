import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { GatewayError, interruptedError } from "../../vm/base/error.ts";
import { silentSpan } from "../../vm/base/event.ts";
import { exists, instancePaths } from "../../vm/base/layout.ts";
import { pause, waitFor } from "../../vm/base/wait.ts";
import type { RunningVm, SaveTarget } from "../../vm/machine/vmm.ts";
import { askSupervisor, type SupervisorRequest } from "./requests.ts";
import { type RunEnd, stay } from "./supervisor.ts";

const patient = AbortSignal.timeout(60_000);
const SUSPEND = { do: "suspend" } as const;
const snapshot = (name: string) => ({ do: "snapshot", name, ramDir: null }) as const;

/** A save that works. */
async function saves(target: SaveTarget) {
  await Deno.writeTextFile(target.devicesPath, "devices");
  await Deno.writeTextFile(target.ramPath, "memory");
  await target.overlay?.commit();
  const parts = { pauseMs: 1, ramBytes: 6, adopted: false };
  await target.complete(parts);
  return parts;
}

/** A run of which only the supervisor is real. */
class Run implements AsyncDisposable {
  /** How long the guest takes to answer a ping. */
  pingMs = 0;
  /** Whether the network process answers. */
  network = true;
  /** Whether the guest has said that it powers off. */
  poweredOff = false;
  /** What the VM was asked to do, in order. */
  readonly done: string[] = [];
  readonly span = silentSpan();
  readonly user = new AbortController();
  /** How the run ended; undefined while it goes on. */
  ended: RunEnd | GatewayError | undefined;
  readonly #guard = new AbortController();

  private constructor(
    readonly dir: string,
    private readonly save: NonNullable<RunningVm["save"]>,
  ) {}

  static async start(
    save: NonNullable<RunningVm["save"]> = saves,
    change: Partial<Pick<Run, "pingMs" | "network" | "poweredOff">> = {},
  ): Promise<Run> {
    const run = Object.assign(new Run(await Deno.makeTempDir(), save), change);
    await Deno.writeTextFile(join(run.dir, "state.img"), "disk");
    void run.#stay().then((end) => run.ended = end, (error) => run.ended = error);
    return run;
  }

  get paths() {
    const { dir } = this;
    return { ...instancePaths("dev"), dir, runtimeDir: dir, pkiDir: join(dir, "pki") };
  }

  /** The end of the VM, which the guard reports. */
  exit(): void {
    const words = { what: "The VM ended", why: "it was killed", fix: "none" };
    this.#guard.abort(new GatewayError({ code: "vm-exited", ...words }));
  }

  ask(request: SupervisorRequest) {
    return askSupervisor(this.paths, request, patient);
  }

  /** Waits for the end of the run. */
  async end(): Promise<RunEnd | GatewayError> {
    const probe = () => Promise.resolve(this.ended);
    return await waitFor({ what: "the end of the run", probe, timeoutMs: 20_000, intervalMs: 5 });
  }

  #stay(): Promise<RunEnd> {
    const vm = {
      pid: Deno.pid,
      save: async (target: SaveTarget, signal: AbortSignal) => {
        this.done.push(target.then);
        const saved = await this.save(target, signal);
        this.done.push(`${target.then} done`);
        // A suspended VM ends, and its guard notices that first.
        if (target.then === "end") this.exit();
        return saved;
      },
      stop: (timeoutMs: number) => {
        this.done.push(`stop ${timeoutMs}`);
        this.exit();
        return Promise.resolve({ code: 0, signal: null });
      },
    };
    const control = {
      markSeen: (name: string) => this.poweredOff && name === "stopped" ? 1 : undefined,
      request: async () => {
        await pause(this.pingMs);
        return "";
      },
    };
    const stats = () => this.network ? Promise.resolve({}) : Promise.reject(new Error("it hangs"));
    const parts = {
      ...{ paths: this.paths, config: { name: "dev", stateMiB: 64, payloadDigest: null } },
      ...{ spec: { ram: { layers: [] } }, vm, control, key: "k", gvproxy: { client: { stats } } },
      ...{ ports: { sshPort: 1, apiPort: null }, span: this.span },
    } as unknown as Parameters<typeof stay>[0];
    return stay(parts, this.#guard.signal, this.user.signal);
  }

  /** What was warned of. */
  get warnings(): string {
    return this.span.events.filter(({ kind }) => kind === "warn").map((one) => one.message).join();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.exit();
    await this.end();
    // A ping is answered at its own pace.
    await pause(this.pingMs);
    await Deno.remove(this.dir, { recursive: true });
  }
}

/** A guest that answers late has slept, and then its network is looked at. */
const HANGING = { network: false, pingMs: 900 };

const listening = (run: Run) =>
  waitFor({
    what: "the supervisor to listen",
    probe: async () => await exists(join(run.dir, "supervisor")) || undefined,
    timeoutMs: 10_000,
    intervalMs: 5,
  });

Deno.test("stay() carries out one request after the other", async () => {
  const first = Promise.withResolvers<void>();
  await using run = await Run.start(async (target) => {
    await first.promise;
    return await saves(target);
  });
  await listening(run);
  const both = [run.ask(snapshot("one")), run.ask(snapshot("two"))];
  await pause(200);
  assertEquals(run.done, ["continue"]);
  first.resolve();
  const reports = await Promise.all(both);
  assertEquals(reports.map((report) => report?.ramBytes), [6, 6]);
  assertEquals(run.done, ["continue", "continue done", "continue", "continue done"]);
  assertEquals(run.ended, undefined);
  for (const name of ["one", "two"]) assert(await exists(join(run.dir, `snapshots/${name}.json`)));
  await run.ask({ do: "forget", name: "one" });
  const left = [...Deno.readDirSync(join(run.dir, "snapshots"))].map(({ name }) => name);
  assertEquals(left, ["two.json"]);
});

Deno.test("stay() ends with a suspend, and does not take the VM's end for a failure", async () => {
  await using run = await Run.start();
  await listening(run);
  assertEquals((await run.ask(SUSPEND))?.ramBytes, 6);
  assertEquals(await run.end(), "over");
  assertEquals(await exists(join(run.dir, "suspend.json")), true);
});

Deno.test("stay() asks for another run when the network process hangs, and saves the guest for it", async () => {
  await using run = await Run.start(saves, HANGING);
  assertEquals(await run.end(), "again");
  assertEquals(run.done, ["end", "end done"]);
  assertEquals(await exists(join(run.dir, "suspend.json")), true);
});

Deno.test("stay() goes on with a hanging network when the guest cannot be saved for another run", async () => {
  await using run = await Run.start(() => Promise.reject(new Error("no space")), HANGING);
  await waitFor({
    what: "a warning",
    probe: () => Promise.resolve(run.warnings.includes("no space") || undefined),
    timeoutMs: 20_000,
  });
  assertEquals(run.ended, undefined);
  run.user.abort(interruptedError());
  run.exit();
  assertEquals(await run.end(), "over");
});

Deno.test("stay() ends without a save when the run is discarded", async () => {
  await using run = await Run.start();
  await listening(run);
  assertEquals(await run.ask({ do: "discard" }), undefined);
  assertEquals(await run.end(), "over");
  assertEquals(run.done, ["stop 2000"]);
});

Deno.test("stay() ends when the guest powers itself off", async () => {
  await using run = await Run.start(saves, { poweredOff: true });
  run.exit();
  assertEquals(await run.end(), "over");
});

Deno.test("stay() goes on after a save that failed, and then reports the end of the VM", async () => {
  await using run = await Run.start(() => Promise.reject(new Error("no space")));
  await listening(run);
  for (const request of [SUSPEND, snapshot("one")]) {
    const error = await assertRejects(() => run.ask(request), GatewayError);
    assertEquals([error.code, error.why], ["vmm-failed", "no space"]);
  }
  assertEquals(run.ended, undefined);
  run.exit();
  assertEquals((await run.end() as GatewayError).code, "vm-exited");
});

Deno.test("stay() ends when the user stops it, once a snapshot that was cut has taken its files away", async () => {
  const cut = Promise.withResolvers<void>();
  await using run = await Run.start(async (target, signal) => {
    await Deno.writeTextFile(target.ramPath, "half");
    await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
    await cut.promise;
    throw interruptedError();
  });
  await listening(run);
  const asked = assertRejects(() => run.ask(snapshot("one")), GatewayError);
  await waitFor({
    what: "a save that has begun",
    probe: () => Promise.resolve(run.done.length > 0 || undefined),
    timeoutMs: 10_000,
    intervalMs: 5,
  });
  run.user.abort(interruptedError());
  run.exit();
  await pause(200);
  assertEquals(run.ended, undefined);
  cut.resolve();
  assertEquals(await run.end(), "over");
  const left = [...Deno.readDirSync(run.dir)].map(({ name }) => name);
  assertEquals(left.filter((name) => /^(ram|dev)-/.test(name)), []);
  await asked;
});
