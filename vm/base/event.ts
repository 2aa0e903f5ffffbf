/**
 * Spans and the event record: the only way a module tells what it does. Views (progress, timeline,
 * `--json`, events.jsonl) are made from these records elsewhere.
 * It must not print, and no secret may be put in a name, a message or an attribute.
 *
 * @module
 */
import { asHostError, describeError, GatewayError } from "./error.ts";

/** Anything JSON can hold. */
export type JsonValue =
  | string
  | number
  | boolean
  | null
  | readonly JsonValue[]
  | { readonly [key: string]: JsonValue };

/** Small facts attached to an event. */
export type Attrs = Readonly<Record<string, JsonValue>>;

/** One line of events.jsonl. */
export interface EventRecord {
  /** Host wall clock, unix milliseconds with fractions. */
  readonly t: number;
  /** What happened; `mark` is a line the guest sent over gw.control. */
  readonly kind: "start" | "end" | "log" | "warn" | "progress" | "mark";
  /** The span it belongs to; unique within one log. */
  readonly id: number;
  /** The span above, null for a root. */
  readonly parent: number | null;
  /** Span name, or mark name for `mark`. */
  readonly name: string;
  /** On `log` and `warn`: one line for people. */
  readonly message?: string;
  /** Facts for programs; on a failed `end` the error's code, what, why and fix. */
  readonly attrs?: Attrs;
  /** On `end`: why the span failed. */
  readonly error?: string;
}

/** Where records go. A sink must not throw. */
export type EventSink = (record: EventRecord) => void;

/** One piece of work on the way: started when made, ended exactly once. */
export interface Span {
  /** What the work is called in views. */
  readonly name: string;
  /** Starts a span below this one. The caller ends it. */
  child(name: string, attrs?: Attrs): Span;
  /** A fact worth a line. */
  log(message: string, attrs?: Attrs): void;
  /** Something the user should see although the work goes on. */
  warn(message: string, attrs?: Attrs): void;
  /** How far the work is; `total` null when nobody knows. */
  progress(done: number, total: number | null, unit?: string): void;
  /** A mark that came from the guest; `uptimeSeconds` is the guest's own clock. */
  mark(name: string, uptimeSeconds: number, attrs?: Attrs): void;
  /** Runs `fn` in a child span and ends it with its outcome. */
  run<T>(name: string, fn: (span: Span) => Promise<T>, attrs?: Attrs): Promise<T>;
  /** Ends the span; with an argument it failed. A second call does nothing. */
  end(error?: unknown): void;
}

/** Fans records out to sinks and hands out root spans. */
export class EventLog {
  #sinks = new Set<EventSink>();
  #nextId = 1;
  #now: () => number;

  /** `now` gives unix milliseconds; tests pass their own. */
  constructor(now: () => number = () => performance.timeOrigin + performance.now()) {
    this.#now = now;
  }

  /** Adds a sink; the returned function takes it away again. */
  addSink(sink: EventSink): () => void {
    this.#sinks.add(sink);
    return () => this.#sinks.delete(sink);
  }

  /** Starts a root span. */
  span(name: string, attrs?: Attrs): Span {
    return this.#start(name, null, attrs);
  }

  #emit(record: Omit<EventRecord, "t">): void {
    const full: EventRecord = { t: this.#now(), ...record };
    for (const sink of this.#sinks) sink(full);
  }

  #start(name: string, parent: number | null, attrs?: Attrs): Span {
    const id = this.#nextId++;
    this.#emit({ kind: "start", id, parent, name, attrs });
    let ended = false;
    const at = { id, parent, name };
    const span: Span = {
      name,
      child: (childName, childAttrs) => this.#start(childName, id, childAttrs),
      log: (message, a) => this.#emit({ kind: "log", ...at, message, attrs: a }),
      warn: (message, a) => this.#emit({ kind: "warn", ...at, message, attrs: a }),
      progress: (done, total, unit) =>
        this.#emit({
          kind: "progress",
          ...at,
          attrs: { done, total, ...(unit === undefined ? {} : { unit }) },
        }),
      mark: (markName, uptime, a) =>
        this.#emit({ kind: "mark", id, parent, name: markName, attrs: { ...a, uptime } }),
      run: async (childName, fn, a) => {
        const inner = span.child(childName, a);
        try {
          const value = await fn(inner);
          inner.end();
          return value;
        } catch (error) {
          inner.end(error);
          throw error;
        }
      },
      end: (thrown) => {
        if (ended) return;
        ended = true;
        const error = asHostError(thrown);
        this.#emit({
          kind: "end",
          ...at,
          ...(error === undefined ? {} : {
            error: describeError(error),
            ...(error instanceof GatewayError ? { attrs: error.toJSON() } : {}),
          }),
        });
      },
    };
    return span;
  }
}

/** A span whose records are kept in memory, for tests and for callers that want silence. */
export function silentSpan(): Span & { readonly events: EventRecord[] } {
  const log = new EventLog();
  const events: EventRecord[] = [];
  log.addSink((record) => void events.push(record));
  return Object.assign(log.span("silent"), { events });
}

/**
 * Appends records to a JSON-lines file made with mode 0600. Writes are synchronous so that a crash loses
 * nothing; a write that fails (disk full) is dropped, because telling must never break doing.
 */
export function fileSink(path: string): EventSink & Disposable {
  const file = Deno.openSync(path, { create: true, append: true, mode: 0o600 });
  const encoder = new TextEncoder();
  let open = true;
  const sink = (record: EventRecord) => {
    if (!open) return;
    try {
      file.writeSync(encoder.encode(JSON.stringify(record) + "\n"));
    } catch {
      // Nowhere left to tell it.
    }
  };
  return Object.assign(sink, {
    [Symbol.dispose]() {
      if (open) file.close();
      open = false;
    },
  });
}

/** Parses one line of events.jsonl; undefined for a line cut by a crash. */
export function parseEventLine(line: string): EventRecord | undefined {
  if (line.trim() === "") return undefined;
  try {
    const value = JSON.parse(line);
    return typeof value?.t === "number" && typeof value?.kind === "string" ? value : undefined;
  } catch {
    return undefined;
  }
}
