/**
 * `--detach`: starts the supervisor in the background and follows its events until READY or its error.
 * It must not boot anything itself, and must leave the supervisor running once it is ready.
 *
 * @module
 */
import { join } from "@std/path";
import { abortError, GatewayError } from "../../vm/base/error.ts";
import { type EventRecord, type EventSink, fileSink, parseEventLine } from "../../vm/base/event.ts";
import { ensureRuntimeDir, runtimeDir } from "../../vm/base/layout.ts";
import { orphanId, ownedName, spawnChild } from "../../vm/base/process.ts";
import { pause } from "../../vm/base/wait.ts";
import { selfCommand } from "./self.ts";

/** The message of the record that tells a follower that the endpoint answers. */
export const READY_MESSAGE = "READY";

/**
 * Starts `gateway up ARGS…` as a process of its own and feeds its records to `onEvent` until it is ready.
 *
 * @throws GatewayError of the supervisor, rebuilt from its last record; the signal's reason after the supervisor was told to stop.
 */
export async function startDetached(
  args: readonly string[],
  options: { readonly onEvent: (record: EventRecord) => void; readonly signal: AbortSignal },
): Promise<void> {
  await ensureRuntimeDir();
  await sweepEvents();
  const name = ownedName("up-", `${crypto.randomUUID().slice(0, 8)}.jsonl`);
  const eventsPath = join(runtimeDir(), name);
  const command = selfCommand(["up", ...args, "--events-to", eventsPath]);
  const child = spawnChild(command.program, { args: command.args, detached: true });
  child.unref();
  let exitCode: number | undefined;
  void child.exited.then(({ code }) => exitCode = code);
  try {
    let offset = 0;
    for (;;) {
      const ended = exitCode !== undefined;
      const { records, next } = await readRecords(eventsPath, offset);
      offset = next;
      for (const record of records) {
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
    await Deno.remove(eventsPath).catch(() => {});
  }
}

/**
 * What the supervisor writes for its follower: all records up to the one that ends the following. The follower's file is
 * gone then, and would only grow unseen.
 */
export function followerSink(path: string): EventSink & Disposable {
  const sink = fileSink(path);
  const bounded = (record: EventRecord) => {
    sink(record);
    if (isReady(record) || isFailure(record)) sink[Symbol.dispose]();
  };
  return Object.assign(bounded, { [Symbol.dispose]: () => sink[Symbol.dispose]() });
}

const isReady = ({ kind, message }: EventRecord) => kind === "log" && message === READY_MESSAGE;

/** The end of a span without a parent is that of the start. */
const isFailure = ({ kind, parent, error }: EventRecord) =>
  kind === "end" && parent === null && error !== undefined;

/** Removes the files of followers that were killed. */
async function sweepEvents(): Promise<void> {
  for await (const { name } of Deno.readDir(runtimeDir())) {
    if (!orphanId("up-", name)?.endsWith(".jsonl")) continue;
    await Deno.remove(join(runtimeDir(), name)).catch(() => {});
  }
}

async function readRecords(
  path: string,
  offset: number,
): Promise<{ records: EventRecord[]; next: number }> {
  let bytes: Uint8Array;
  try {
    bytes = await Deno.readFile(path);
  } catch {
    return { records: [], next: offset };
  }
  const end = bytes.lastIndexOf(10) + 1;
  if (end <= offset) return { records: [], next: offset };
  const lines = new TextDecoder().decode(bytes.subarray(offset, end)).split("\n");
  return {
    records: lines.map(parseEventLine).filter((record) => record !== undefined),
    next: end,
  };
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
    why: `it ended with code ${code} and no word`,
    fix: "run the same command without --detach",
  });
}
