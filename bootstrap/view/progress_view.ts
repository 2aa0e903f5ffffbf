/**
 * Ties the pure progress views to an event log: redraws a terminal, or adds plain lines where there is none. It writes
 * only through the function it is given, and it must not know what a step does.
 *
 * @module
 */
import { EventLog, type EventRecord, type Span } from "../../vm/base/event.ts";
import { EMPTY_PROGRESS, plainLines, reduceProgress, renderLive, type Step } from "./progress.ts";

/** A span of a log of its own whose warnings are told and nothing else. */
export function warningSpan(err: (text: string) => void): Span {
  const log = new EventLog();
  attachProgress(log, { err, terminal: undefined, quiet: true });
  return log.span("command");
}

/** A terminal that can be redrawn. */
export interface ProgressTerminal {
  /** Its width now. */
  readonly columns: () => number;
  /** Its height now; 24 when absent. */
  readonly rows?: () => number;
  /** Whether ANSI colours are wanted. */
  readonly color: boolean;
}

/** How progress is shown. */
export interface ProgressViewOptions {
  /** Writes a text and a line end, to where people read. */
  readonly err: (text: string) => void;
  /** Undefined: plain lines without colour. */
  readonly terminal?: ProgressTerminal;
  /** Only warnings, and builds that took long. */
  readonly quiet?: boolean;
  /** Unix milliseconds; tests pass their own. */
  readonly now?: () => number;
}

/** A view on its way; disposing draws its last state and lets go of the terminal. A second time does nothing. */
export interface ProgressView extends Disposable {
  /** Shows a record that came from elsewhere, such as the log of a detached supervisor. */
  readonly show: (record: EventRecord) => void;
}

const REDRAW_MS = 100;
/** The span whose steps are builds. */
const BUILD_SPAN = "artifacts";

/** Shows a log's records from now on until the view is disposed of. */
export function attachProgress(log: EventLog, options: ProgressViewOptions): ProgressView {
  const live = options.terminal !== undefined && !options.quiet;
  const view = live ? liveView(options, options.terminal!) : plainView(options);
  const detach = log.addSink(view.show);
  let open = true;
  return {
    show: view.show,
    [Symbol.dispose]() {
      if (!open) return;
      open = false;
      detach();
      view.close();
    },
  };
}

interface Drawing {
  readonly show: (record: EventRecord) => void;
  readonly close: () => void;
}

function plainView(options: ProgressViewOptions): Drawing {
  let state = EMPTY_PROGRESS;
  return {
    show: (record) => {
      state = reduceProgress(state, record);
      if (options.quiet && !isLoud(record, state.steps)) return;
      const color = options.terminal?.color ?? false;
      for (const line of plainLines(state, record, color)) options.err(line);
    },
    close: () => {},
  };
}

/** The errors are told by whoever catches them; a quiet view tells warnings and how long builds took. */
function isLoud(record: EventRecord, steps: ReadonlyMap<number, Step>): boolean {
  if (record.kind === "warn") return true;
  if (record.kind !== "end" || record.error !== undefined) return false;
  return record.parent !== null && steps.get(record.parent)?.name === BUILD_SPAN;
}

function liveView(options: ProgressViewOptions, terminal: ProgressTerminal): Drawing {
  const now = options.now ?? (() => Date.now());
  let state = EMPTY_PROGRESS;
  let drawn = 0;
  const draw = () => {
    const lines = renderLive(state, {
      // One column is left free: a full line would make some terminals wrap.
      width: terminal.columns() - 1,
      nowMs: now(),
      color: terminal.color,
      height: Math.max(2, (terminal.rows?.() ?? 24) - 1),
    });
    if (lines.length === 0 && drawn === 0) return;
    // Up to where the last drawing began, then each line with the rest of its row cleared, then all below.
    const up = drawn > 0 ? `\x1b[${drawn}A\r` : "";
    options.err(up + lines.map((line) => `${line}\x1b[K`).join("\n") + "\x1b[J");
    drawn = Math.max(1, lines.length);
  };
  const timer = setInterval(draw, REDRAW_MS);
  Deno.unrefTimer(timer);
  return {
    // Drawing waits for the timer: a build can send thousands of records a second.
    show: (record) => void (state = reduceProgress(state, record)),
    close: () => {
      clearInterval(timer);
      draw();
    },
  };
}
