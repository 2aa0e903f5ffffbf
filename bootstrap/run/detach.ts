/**
 * `--detach`: starts the supervisor in the background and follows its events until READY or its error.
 * It must not boot anything itself, and must leave the supervisor running once it is ready.
 *
 * @module
 */
import { basename, join } from "@std/path";
import * as v from "valibot";
import { writeNewFile } from "../../vm/base/durable.ts";
import { abortError, GatewayError, usageError } from "../../vm/base/error.ts";
import { type EventRecord, type EventSink, fileSink } from "../../vm/base/event.ts";
import { EventReader } from "../../vm/base/event_reader.ts";
import { parseJson } from "../../vm/base/json_file.ts";
import { ensureRuntimeDir, runtimeDir } from "../../vm/base/layout.ts";
import { spawnChild } from "../../vm/base/process.ts";
import { orphanId, ownedName } from "../../vm/base/process_table.ts";
import { pause } from "../../vm/base/wait.ts";
import { selfCommand } from "./self.ts";

/** The message of the record that tells a follower that the endpoint answers. */
export const READY_MESSAGE = "READY";

/** What a detached supervisor is given. */
export interface DetachedPlan {
  /** What to start, as JSON; the starting command and the supervisor agree on what is in it. */
  readonly plan: string;
  /** The file that it writes its records to. */
  readonly eventsTo: string;
}

const PlanFile: v.GenericSchema<unknown, DetachedPlan> = v.object({
  plan: v.string(),
  eventsTo: v.string(),
});

/** How {@linkcode startDetached} follows a supervisor. */
export interface DetachOptions {
  /** Gets its records until it is ready. */
  readonly onEvent: (record: EventRecord) => void;
  /** Stops the supervisor. */
  readonly signal: AbortSignal;
  /** Variables that differ from those of this process. */
  readonly env?: Readonly<Record<string, string>>;
}

/**
 * Starts `gateway __up FILE` as a process of its own, with the plan in the file, and returns when it is ready.
 *
 * @throws GatewayError of the supervisor, rebuilt from its last record; the signal's reason after the supervisor was told to stop.
 */
export async function startDetached(plan: object, options: DetachOptions): Promise<void> {
  await ensureRuntimeDir();
  await sweepFiles();
  const name = ownedName("up-", crypto.randomUUID().slice(0, 8));
  const { env } = options;
  const eventsPath = join(runtimeDir(), `${name}.jsonl`);
  const planPath = join(runtimeDir(), `${name}.json`);
  const file: DetachedPlan = { plan: JSON.stringify(plan), eventsTo: eventsPath };
  await writeNewFile(planPath, JSON.stringify(file), 0o600, false);
  const command = selfCommand(["__up", planPath]);
  const child = spawnChild(command.program, { args: command.args, env, detached: true });
  child.unref();
  let exitCode: number | undefined;
  void child.exited.then(({ code }) => exitCode = code);
  try {
    const reader = new EventReader(eventsPath);
    for (;;) {
      const ended = exitCode !== undefined;
      for (const record of await reader.read()) {
        options.onEvent(record);
        if (isReady(record)) return;
        if (isFailure(record)) throw errorOf(record);
      }
      if (ended) throw silentEnd(exitCode!);
      await pause(40, options.signal);
    }
  } catch (error) {
    if (options.signal.aborted) {
      await child.stop(60_000);
      throw abortError(options.signal);
    }
    throw error;
  } finally {
    for (const path of [eventsPath, planPath]) await Deno.remove(path).catch(() => {});
  }
}

/** What the file of `gateway __up FILE` holds; it is removed. @throws GatewayError `usage`. */
export async function readDetachedPlan(words: readonly string[]): Promise<DetachedPlan> {
  const [path] = words;
  if (path !== undefined && words.length === 1) {
    const text = await Deno.readTextFile(path).catch(() => undefined);
    if (text !== undefined) {
      const plan = parseJson(PlanFile, text, path);
      await Deno.remove(path).catch(() => {});
      return plan;
    }
  }
  throw usageError(
    "Cannot start a supervisor",
    "it takes one word, the file with its plan",
    "start instances with `gateway up`; this is how it calls itself",
  );
}

/**
 * What the supervisor writes for its follower: all records up to the one that ends the following. The follower's file is
 * gone then, and would only grow unseen. Disposing removes the file of a follower that was killed.
 */
export function followerSink(path: string): EventSink & Disposable {
  const sink = fileSink(path);
  const bounded = (record: EventRecord) => {
    sink(record);
    if (isReady(record) || isFailure(record)) sink[Symbol.dispose]();
  };
  const dispose = () => {
    sink[Symbol.dispose]();
    if (orphanId("up-", basename(path)) === undefined) return;
    try {
      Deno.removeSync(path);
    } catch {
      // Another start has removed it.
    }
  };
  return Object.assign(bounded, { [Symbol.dispose]: dispose });
}

const isReady = ({ kind, message }: EventRecord) => kind === "log" && message === READY_MESSAGE;

/** The end of a span without a parent is that of the start. */
const isFailure = ({ kind, parent, error }: EventRecord) =>
  kind === "end" && parent === null && error !== undefined;

/** Removes the files of followers that were killed. */
async function sweepFiles(): Promise<void> {
  for await (const { name } of Deno.readDir(runtimeDir())) {
    if (!/\.jsonl?$/.test(orphanId("up-", name) ?? "")) continue;
    await Deno.remove(join(runtimeDir(), name)).catch(() => {});
  }
}

function errorOf(record: EventRecord): GatewayError {
  const { code, what, why, fix, details } = (record.attrs ?? {}) as Partial<
    ReturnType<GatewayError["toJSON"]>
  >;
  return new GatewayError({
    code: code ?? "bug",
    what: what ?? "Cannot start the instance",
    why: why ?? record.error ?? "no reason was given",
    fix: fix ?? "run it again without --detach to see more",
    details,
  });
}

function silentEnd(code: number): GatewayError {
  return new GatewayError({
    code: "bug",
    what: "Cannot start the supervisor in the background",
    why: `it exited with code ${code} and printed nothing`,
    fix: "run the same command without --detach",
  });
}
