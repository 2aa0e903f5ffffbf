/**
 * The host's end of gw.control: marks and failures from the guest, the few requests that must work without a network.
 * It must not carry secrets and must not know what a mark means.
 *
 * @module
 */
import { GatewayError } from "../base/error.ts";
import type { Attrs, Span } from "../base/event.ts";
import { connectUnix, readLines, writeAll } from "../base/lines.ts";
import { Pace, type PaceClock, paced } from "../base/pace.ts";
import { type LimitedSpan, limitRecords } from "../base/record_limit.ts";
import { settleWithin, waitFor } from "../base/wait.ts";

/** A line of the guest, parsed. */
export type ControlLine =
  | {
    readonly kind: "mark";
    readonly uptimeSeconds: number;
    readonly name: string;
    readonly attrs: Attrs;
  }
  | { readonly kind: "failure"; readonly stage: string; readonly why: string }
  | { readonly kind: "reply"; readonly id: string; readonly ok: boolean; readonly text: string }
  | { readonly kind: "other"; readonly text: string };

/** Parses one line of gw.control; what fits no form is `other`, since a guest's bytes are never trusted. */
export function parseControlLine(line: string): ControlLine {
  const failure = /^! ([\w-]+): (.+)$/.exec(line);
  if (failure) return { kind: "failure", stage: failure[1]!, why: failure[2]! };
  const reply = /^= (\S+) (ok|error) ?(.*)$/.exec(line);
  if (reply) return { kind: "reply", id: reply[1]!, ok: reply[2] === "ok", text: reply[3]! };
  const mark = /^(\d+\.\d+) ([a-z][\w-]*)((?: [\w-]+=\S*)*)$/.exec(line);
  if (!mark) return { kind: "other", text: line };
  const attrs: Record<string, string> = {};
  for (const pair of mark[3]!.trim().split(" ").filter(Boolean)) {
    const at = pair.indexOf("=");
    attrs[pair.slice(0, at)] = pair.slice(at + 1);
  }
  return { kind: "mark", uptimeSeconds: Number(mark[1]), name: mark[2]!, attrs };
}

// Root in the guest can write to the port what it likes, so the host does not rely on the agent's bounds.

/** In characters; the agent's longest line has 4096 bytes. */
const MAX_LINE_LENGTH = 8192;

/** A boot sends a few KiB. */
const MAX_BYTES_PER_SECOND = 256 * 1024;

/** How many different marks are remembered; the agent queues as many. */
const MAX_MARKS = 1024;

/** What the guest's lines add to the records of a run. */
const MAX_RECORDS = { what: "lines from the guest", records: 4096, characters: 1024 * 1024 };

interface Pending {
  resolve(text: string): void;
  reject(error: GatewayError): void;
}

/** An open control port; disposing closes it, upon which the guest ends itself after its grace time. */
export class ControlPort implements Disposable {
  readonly #conn: Deno.UnixConn;
  readonly #marks = new Map<string, number>();
  readonly #waiters = new Map<string, Set<() => void>>();
  readonly #pending = new Map<string, Pending>();
  readonly #ended = new AbortController();
  #nextId = 1;
  #closed = false;
  /** Resolves with the guest's first failure line; never rejects, and stays open when there is none. */
  readonly failed: Promise<GatewayError>;
  #fail!: (error: GatewayError) => void;

  private constructor(conn: Deno.UnixConn, span: Span, clock?: PaceClock) {
    this.#conn = conn;
    this.failed = new Promise((resolve) => this.#fail = resolve);
    void this.#read(limitRecords(span, MAX_RECORDS), new Pace(MAX_BYTES_PER_SECOND, clock));
  }

  /** Connects to the VMM's socket, which may come into being a moment later. `clock` is for tests. */
  static async connect(
    path: string,
    options: { span: Span; signal: AbortSignal; timeoutMs?: number; clock?: PaceClock },
  ): Promise<ControlPort> {
    const conn = await waitFor({
      what: "the VM's control port",
      probe: () => connectUnix(path),
      timeoutMs: options.timeoutMs ?? 10_000,
      intervalMs: 5,
      signal: options.signal,
      code: "vmm-failed",
      hint: "read the VMM's log in the instance's folder",
    });
    return new ControlPort(conn, options.span, options.clock);
  }

  /** The guest's uptime in seconds when it sent the mark, undefined until then. */
  markSeen(name: string): number | undefined {
    return this.#marks.get(name);
  }

  /** Waits for a mark; returns the guest's uptime in seconds. The caller's signal carries the VM's exit and the guest's failures. */
  async waitForMark(name: string, timeoutMs: number, signal: AbortSignal): Promise<number> {
    if (!this.#marks.has(name)) {
      await settleWithin(this.#nextMark(name), {
        what: `the guest's mark "${name}"`,
        timeoutMs,
        signal,
        code: "guest-failed",
      });
    }
    return this.#marks.get(name)!;
  }

  #nextMark(name: string): Promise<void> {
    return new Promise((resolve) => {
      const set = this.#waiters.get(name) ?? new Set();
      this.#waiters.set(name, set.add(resolve));
    });
  }

  /**
   * Sends a request and waits for its reply's text.
   *
   * @throws GatewayError `guest-failed` for an error reply, `guest-unreachable` when the port is closed, `timeout`.
   */
  async request(command: string, timeoutMs: number, signal?: AbortSignal): Promise<string> {
    const verb = command.split(" ", 1)[0]!;
    if (this.#closed) throw unreachable(verb);
    const id = `r${this.#nextId++}`;
    const reply = new Promise<string>((resolve, reject) => {
      this.#pending.set(id, { resolve, reject });
    });
    reply.catch(() => {});
    try {
      await writeAll(this.#conn, new TextEncoder().encode(`${id} ${command}\n`)).catch(() => {
        throw unreachable(verb);
      });
      return await settleWithin(reply, {
        what: `the guest's answer to "${verb}"`,
        timeoutMs,
        signal,
        code: "guest-unreachable",
      });
    } finally {
      this.#pending.delete(id);
    }
  }

  async #read(span: LimitedSpan, pace: Pace): Promise<void> {
    try {
      const stream = paced(this.#conn.readable, pace, this.#ended.signal);
      for await (const line of readLines(stream, MAX_LINE_LENGTH)) {
        if (line !== "") this.#take(parseControlLine(line), span);
      }
    } catch {
      // The VMM went away; its exit is watched elsewhere.
    } finally {
      this.#closed = true;
      for (const { reject } of this.#pending.values()) reject(unreachable("the request"));
    }
  }

  #take(line: ControlLine, span: LimitedSpan): void {
    switch (line.kind) {
      case "mark": {
        span.mark(line.name, line.uptimeSeconds, line.attrs);
        this.#remember(line.name, line.uptimeSeconds);
        const waiters = this.#waiters.get(line.name);
        this.#waiters.delete(line.name);
        waiters?.forEach((resolve) => resolve());
        break;
      }
      case "failure":
        span.warn(`guest: ${line.stage}: ${line.why}`);
        this.#fail(guestFailure(line.stage, line.why));
        break;
      case "reply": {
        const pending = this.#pending.get(line.id);
        if (line.ok) pending?.resolve(line.text);
        else pending?.reject(guestFailure("agent", line.text));
        break;
      }
      default:
        span.log(`guest: ${line.text.slice(0, 500)}`);
    }
  }

  /** A mark that is awaited is always remembered. */
  #remember(name: string, uptimeSeconds: number): void {
    const known = this.#marks.has(name) || this.#waiters.has(name);
    if (known || this.#marks.size < MAX_MARKS) this.#marks.set(name, uptimeSeconds);
  }

  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#ended.abort();
    try {
      this.#conn.close();
    } catch {
      // Closed by the VMM already.
    }
  }
}

function unreachable(verb: string): GatewayError {
  return new GatewayError({
    code: "guest-unreachable",
    what: `Cannot send "${verb}" to the guest`,
    why: "its control port is closed",
    fix: "run `gateway status`; if the instance crashed, run `gateway up` again",
  });
}

/** The error for a stage of the guest's init that gave up. */
export function guestFailure(stage: string, why: string): GatewayError {
  return new GatewayError({
    code: "guest-failed",
    what: `Cannot boot the guest past its stage "${stage}"`,
    why,
    fix: "run `gateway logs` to read the guest's console",
  });
}
