/**
 * What other `gateway` processes ask of an instance's supervisor, on a socket: suspend, snapshot, forget a snapshot, end
 * without a word to the guest, change host services. Both ends of it.
 * It must not carry anything out.
 *
 * @module
 */
import * as v from "valibot";
import { asHostError, describeError, GatewayError } from "../../vm/base/error.ts";
import { type InstancePaths, socketPath } from "../../vm/base/layout.ts";
import { LineConnection, listenPrivate, readLines, writeAll } from "../../vm/base/lines.ts";
import { HostServiceRequest } from "./host_service.ts";
import type { SaveReport } from "./save.ts";

const Request = v.variant("do", [
  v.object({ do: v.literal("suspend") }),
  v.object({ do: v.literal("snapshot"), name: v.string(), ramDir: v.nullable(v.string()) }),
  v.object({ do: v.literal("forget"), name: v.string() }),
  v.object({ do: v.literal("discard") }),
  HostServiceRequest,
]);

/** What can be asked of a supervisor. */
export type SupervisorRequest = v.InferOutput<typeof Request>;

const Reply = v.object({
  error: v.optional(v.object({
    code: v.string(),
    what: v.string(),
    why: v.string(),
    fix: v.string(),
  })),
  report: v.optional(v.object({ pauseMs: v.number(), ramBytes: v.number() })),
});

function supervisorSocket(paths: Pick<InstancePaths, "runtimeDir">): string {
  return socketPath(paths.runtimeDir, "supervisor");
}

/**
 * Answers on the instance's socket until it is disposed. One request a connection: a line of JSON in, a line of JSON out.
 * The folder is ours alone (0700).
 */
export function serveRequests(
  paths: Pick<InstancePaths, "runtimeDir">,
  carryOut: (request: SupervisorRequest) => Promise<SaveReport | undefined>,
): Disposable {
  const listener = listenPrivate(supervisorSocket(paths));
  const answer = async (conn: Deno.UnixConn) => {
    using held = conn;
    for await (const line of readLines(held.readable)) {
      const reply = await carryOutLine(line, carryOut);
      await writeAll(held, new TextEncoder().encode(JSON.stringify(reply) + "\n"));
      return;
    }
  };
  void (async () => {
    // Ends when the listener is closed.
    for await (const conn of listener) answer(conn).catch(() => {});
  })().catch(() => {});
  return { [Symbol.dispose]: () => listener.close() };
}

async function carryOutLine(
  line: string,
  carryOut: (request: SupervisorRequest) => Promise<SaveReport | undefined>,
): Promise<{ report: SaveReport | undefined } | { error: GatewayError }> {
  let request: SupervisorRequest | undefined;
  try {
    request = v.parse(Request, JSON.parse(line));
    return { report: await carryOut(request) };
  } catch (error) {
    return { error: asError(error, request?.do) };
  }
}

function asError(thrown: unknown, asked: SupervisorRequest["do"] | undefined): GatewayError {
  const error = asHostError(thrown);
  if (error instanceof GatewayError) return error;
  return new GatewayError({
    // A save without a code of its own failed in the VMM.
    code: asked === "suspend" || asked === "snapshot" ? "vmm-failed" : "bug",
    what: "Cannot carry out the request",
    why: describeError(error),
    fix: "run `gateway status`; the instance goes on if it is still ready",
  });
}

const ANSWER_TIMEOUT_MS = 120_000;

/**
 * Asks a running instance's supervisor.
 *
 * @throws GatewayError `instance-locked` when it is not ready, what the supervisor says, or the signal's reason.
 */
export async function askSupervisor(
  paths: Pick<InstancePaths, "name" | "runtimeDir">,
  request: SupervisorRequest,
  signal: AbortSignal,
): Promise<SaveReport | undefined> {
  using supervisor = await LineConnection.connect(supervisorSocket(paths));
  if (!supervisor) {
    throw new GatewayError({
      code: "instance-locked",
      what: `Cannot ${verbOf(request)} the instance "${paths.name}"`,
      why: "it is not ready yet, or it is stopping",
      fix: "wait until `gateway status` says ready, then try again",
    });
  }
  const value = await exchange(supervisor, JSON.stringify(request), signal).catch((error) => {
    if (!closed(error)) throw error;
  });
  if (value === undefined) throw vmGone(paths.name, verbOf(request));
  const reply = v.parse(Reply, JSON.parse(value));
  if (reply.error) {
    throw new GatewayError(reply.error as ConstructorParameters<typeof GatewayError>[0]);
  }
  return reply.report;
}

async function exchange(
  supervisor: LineConnection,
  request: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  await supervisor.say(request);
  const what = "the supervisor's answer";
  return await supervisor.hear({ what, timeoutMs: ANSWER_TIMEOUT_MS, signal });
}

/** Whether the other side has closed the connection, or died. */
function closed(error: unknown): boolean {
  return error instanceof Deno.errors.BrokenPipe || error instanceof Deno.errors.ConnectionReset;
}

function verbOf(request: SupervisorRequest): string {
  return request.do === "host-service" ? "change the host services of" : request.do;
}

function vmGone(name: string, verb: string): GatewayError {
  return new GatewayError({
    code: "vm-exited",
    what: `Cannot ${verb} the instance "${name}"`,
    why: "it ended meanwhile",
    fix: "run `gateway logs` to read its console, then `gateway up` again",
  });
}
