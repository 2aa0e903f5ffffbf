/**
 * A client of QEMU's machine protocol over its unix socket: commands with replies, events.
 * It must not know which commands exist.
 *
 * @module
 */
import { describeError, GatewayError } from "../base/error.ts";
import type { JsonValue } from "../base/event.ts";
import { connectUnix, readLines, writeAll } from "../base/lines.ts";
import { raceAbort, settleWithin, waitFor } from "../base/wait.ts";

/** An event of QEMU, such as SHUTDOWN or STOP. */
export interface QmpEvent {
  readonly event: string;
  readonly data?: Readonly<Record<string, JsonValue>>;
}

interface Pending {
  readonly command: string;
  resolve(value: JsonValue): void;
  reject(error: GatewayError): void;
}

/** An open QMP session; disposing closes the socket and leaves QEMU running. */
export class QmpClient implements Disposable {
  readonly #conn: Deno.UnixConn;
  readonly #pending = new Map<number, Pending>();
  readonly #listeners = new Set<(event: QmpEvent) => void>();
  #greeted!: () => void;
  readonly #greeting: Promise<void>;
  #nextId = 1;
  #closed = false;

  private constructor(conn: Deno.UnixConn) {
    this.#conn = conn;
    this.#greeting = new Promise((resolve) => this.#greeted = resolve);
    void this.#read();
  }

  /**
   * Connects and leaves the negotiation mode. The socket may come into being a moment later.
   *
   * @throws GatewayError `vmm-failed`, or the signal's reason.
   */
  static async connect(path: string, signal: AbortSignal, timeoutMs = 10_000): Promise<QmpClient> {
    const conn = await waitFor({
      what: "QEMU's control socket",
      probe: () => connectUnix(path),
      timeoutMs,
      intervalMs: 5,
      signal,
      code: "vmm-failed",
      hint: "read vmm.log in the instance's folder",
    });
    const client = new QmpClient(conn);
    await raceAbort(client.#greeting, signal);
    await client.execute("qmp_capabilities", {}, signal);
    return client;
  }

  /** Calls the listener for every event; the returned function takes it away again. */
  onEvent(listener: (event: QmpEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Runs one command and returns its `return` value.
   *
   * @throws GatewayError `vmm-failed` with QEMU's own words.
   */
  async execute(
    command: string,
    args: Readonly<Record<string, JsonValue>> = {},
    signal?: AbortSignal,
    timeoutMs = 30_000,
  ): Promise<JsonValue> {
    if (this.#closed) throw qmpError(command, "QEMU closed its control socket");
    const id = this.#nextId++;
    const reply = new Promise<JsonValue>((resolve, reject) => {
      this.#pending.set(id, { command, resolve, reject });
    });
    reply.catch(() => {});
    const line = JSON.stringify({ execute: command, arguments: args, id }) + "\n";
    await writeAll(this.#conn, new TextEncoder().encode(line)).catch((error) => {
      throw qmpError(command, describeError(error));
    });
    try {
      const what = `QEMU's answer to "${command}"`;
      return await settleWithin(reply, { what, timeoutMs, signal, code: "vmm-failed" });
    } finally {
      this.#pending.delete(id);
    }
  }

  async #read(): Promise<void> {
    try {
      for await (const line of readLines(this.#conn.readable)) this.#take(JSON.parse(line));
    } catch {
      // QEMU went away in the middle of a line.
    } finally {
      this.#closed = true;
      for (const { command, reject } of this.#pending.values()) {
        reject(qmpError(command, "QEMU ended"));
      }
    }
  }

  #take(message: Record<string, JsonValue>): void {
    if ("QMP" in message) return this.#greeted();
    if ("event" in message) {
      for (const listener of this.#listeners) listener(message as unknown as QmpEvent);
      return;
    }
    const pending = this.#pending.get(Number(message.id));
    if (!pending) return;
    if (message.return !== undefined) return pending.resolve(message.return);
    const error = message.error as { desc?: string } | undefined;
    pending.reject(qmpError(pending.command, error?.desc ?? "no reason given"));
  }

  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    try {
      this.#conn.close();
    } catch {
      // Closed by QEMU already.
    }
  }
}

function qmpError(command: string, why: string): GatewayError {
  return new GatewayError({
    code: "vmm-failed",
    what: `Cannot run QEMU's command "${command}"`,
    why,
    fix: "read vmm.log in the instance's folder",
  });
}
