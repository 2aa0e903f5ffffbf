/**
 * This room turns events and values into text for people: progress, tables, and text without secrets. Nothing in it
 * prints by itself. Read progress_view.ts next.
 *
 * What people see while something runs, as pure functions over event records: a state, a live view for terminals and
 * plain lines for everything else. The caller prints, knows the terminal, and decides about colour.
 * It must not keep a clock, write anywhere or know what a step does.
 *
 * @module
 */
import type { EventRecord } from "../../vm/base/event.ts";
import { cleanText } from "../../vm/base/plain_text.ts";
import { bytesText, fit, fitEnd, fitStart, formatElapsed, paint } from "./text.ts";

/** One span as the views see it. */
export interface Step {
  /** The span's own number. */
  readonly id: number;
  /** The span above; null for a root. */
  readonly parent: number | null;
  /** What it is called. */
  readonly name: string;
  /** 0 for a root. */
  readonly depth: number;
  /** Unix milliseconds. */
  readonly startMs: number;
  /** Unix milliseconds; absent while it runs. */
  readonly endMs?: number;
  /** Why it failed. */
  readonly error?: string;
  /** How far it is; total null when nobody knows. */
  readonly progress?: {
    readonly done: number;
    readonly total: number | null;
    readonly unit: string;
  };
  /** When plain lines last showed its progress, and whether they show the newest. */
  readonly plain?: { readonly atMs: number; readonly due: boolean };
  /** The last message or guest mark below it. */
  readonly detail?: string;
}

/** Everything the views need to know of the records so far. */
export interface ProgressState {
  /** In the order they started. */
  readonly steps: ReadonlyMap<number, Step>;
  /** Unix milliseconds of the first record; null before it. */
  readonly startMs: number | null;
  /** Warnings in the order they came. */
  readonly warnings: readonly string[];
}

/** How the live view is drawn. */
export interface LiveOptions {
  /** Columns of the terminal; lines are never longer than this or than 80. */
  readonly width: number;
  /** Unix milliseconds. */
  readonly nowMs: number;
  /** Whether ANSI colours are wanted. */
  readonly color: boolean;
  /** Rows there are; older finished steps are folded into one line when there are more. */
  readonly height?: number;
}

const MAX_WIDTH = 80;
const TIME_WIDTH = 9;
const BAR_WIDTH = 16;
const LABEL_WIDTH = 22;
/** Grandchildren of a step are told by their parent's detail only. */
const MAX_DEPTH = 2;
const SPINNER = [..."⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"];
const SPINNER_MS = 100;
/** In plain lines a step's end is worth a line only if one had to wait for it. */
const LONG_STEP_MS = 5_000;
/** Plain lines show the bytes of one step no more often than this. */
const PLAIN_PROGRESS_MS = 10_000;

/** The state before any record. */
export const EMPTY_PROGRESS: ProgressState = { steps: new Map(), startMs: null, warnings: [] };

/** The state after one more record. */
export function reduceProgress(state: ProgressState, record: EventRecord): ProgressState {
  const started = { ...state, startMs: state.startMs ?? record.t };
  switch (record.kind) {
    case "start":
      return withStep(started, {
        id: record.id,
        parent: record.parent,
        name: cleanText(record.name),
        depth: depthBelow(state, record.parent),
        startMs: record.t,
      });
    case "end":
      return changeStep(started, record.id, (step) => ({
        ...step,
        endMs: record.t,
        ...(record.error === undefined ? {} : { error: cleanText(record.error) }),
      }));
    case "progress":
      return changeStep(
        started,
        record.id,
        (step) => withProgress(step, record),
      );
    case "log":
      return withDetail(started, record.id, cleanText(record.message ?? ""));
    case "mark":
      return withDetail(started, record.id, `guest: ${cleanText(record.name)}`);
    case "warn":
      return { ...started, warnings: [...state.warnings, cleanText(record.message ?? "")] };
  }
}

/**
 * The live view's lines: steps that ended with their time, steps that run with a spinner, what runs below them, how far,
 * and the warnings. The caller draws them over the ones before.
 */
export function renderLive(state: ProgressState, options: LiveOptions): string[] {
  const view = { ...options, width: Math.max(20, Math.min(options.width, MAX_WIDTH)) };
  const lines: string[] = [];
  for (const step of [...state.steps.values()].filter((step) => step.depth === 1)) {
    lines.push(stepLine(step, view));
    if (step.error !== undefined) {
      lines.push(paint(fit(`  ${step.error}`, view.width), "red", view.color));
    }
    if (step.endMs === undefined) lines.push(...runningBelow(state, step, view));
  }
  for (const warning of state.warnings) {
    lines.push(paint(fit(`! ${warning}`, view.width), "yellow", view.color));
  }
  return foldTo(lines, view);
}

/**
 * The lines one record is worth where no terminal can be redrawn: steps as they start, slow and failed ones as they end,
 * messages, warnings and guest marks, each with the time since the first record. `state` is the one after the record.
 */
export function plainLines(state: ProgressState, record: EventRecord, color: boolean): string[] {
  const at = paint(
    `[${fitStart(formatElapsed(record.t - (state.startMs ?? record.t)), TIME_WIDTH - 1)}]`,
    "dim",
    color,
  );
  const step = state.steps.get(record.id);
  const text = plainText(record, step, color);
  return text === undefined ? [] : [`${at} ${text}`];
}

function plainText(
  record: EventRecord,
  step: Step | undefined,
  color: boolean,
): string | undefined {
  const name = step?.name ?? cleanText(record.name);
  const shown = step !== undefined && step.depth >= 1 && step.depth <= MAX_DEPTH;
  switch (record.kind) {
    case "start":
      return shown ? name : undefined;
    case "end": {
      if (!shown) return undefined;
      const elapsedMs = record.t - step.startMs;
      if (record.error !== undefined) {
        return paint(`${name}: failed: ${cleanText(record.error)}`, "red", color);
      }
      return elapsedMs >= LONG_STEP_MS ? `${name}: done in ${formatElapsed(elapsedMs)}` : undefined;
    }
    case "log":
      return `${name}: ${cleanText(record.message ?? "")}`;
    case "warn":
      return paint(`warning: ${cleanText(record.message ?? "")}`, "yellow", color);
    case "mark": {
      const uptime = record.attrs?.uptime;
      const when = typeof uptime === "number" ? ` (up ${uptime.toFixed(2)} s)` : "";
      return `guest: ${cleanText(record.name)}${when}`;
    }
    case "progress": {
      const { progress, plain } = step ?? {};
      if (progress?.unit !== "bytes" || !plain?.due) return undefined;
      return `${name}: ${formatAmount(progress)}`;
    }
  }
}

type View = LiveOptions;

function stepLine(step: Step, view: View): string {
  const failed = step.error !== undefined;
  const symbol = step.endMs === undefined
    ? paint(spinner(view.nowMs), "cyan", view.color)
    : failed
    ? paint("✗", "red", view.color)
    : paint("✓", "green", view.color);
  const detail = step.endMs === undefined && step.detail ? `  ${step.detail}` : "";
  const room = view.width - TIME_WIDTH - 3;
  const name = fit(step.name, room);
  const rest = fitEnd(detail, room - [...name].length);
  return `${symbol} ${name}${paint(rest, "dim", view.color)} ${elapsed(step, view)}`;
}

function runningBelow(state: ProgressState, top: Step, view: View): string[] {
  const lines = top.progress ? [progressLine(top, 2, "", view)] : [];
  for (const step of state.steps.values()) {
    if (step.parent !== top.id || step.endMs !== undefined) continue;
    const inner = deepestRunning(state, step);
    if (inner.progress) {
      lines.push(progressLine(inner, 4, step.name, view));
      continue;
    }
    const detail = inner.detail ?? (inner.id === step.id ? "" : inner.name);
    const room = view.width - TIME_WIDTH - 5;
    const name = fit(step.name, room);
    const rest = fitEnd(detail ? `  ${detail}` : "", room - [...name].length);
    lines.push(`    ${name}${paint(rest, "dim", view.color)} ${elapsed(step, view)}`);
  }
  return lines;
}

function progressLine(step: Step, indent: number, label: string, view: View): string {
  const { done, total } = step.progress!;
  const share = total === null || total <= 0 ? undefined : Math.min(1, Math.max(0, done / total));
  const count = formatAmount(step.progress!);
  const room = view.width - TIME_WIDTH - 1 - indent;
  // Labels and bars have fixed widths, so that several builds stand in columns.
  const name = label === "" ? "" : `${fitEnd(label, Math.min(LABEL_WIDTH, room >> 1))} `;
  const wantsBar = share !== undefined && room >= LABEL_WIDTH + BAR_WIDTH + 10;
  const bar = wantsBar ? drawBar(share) : "";
  const rest = fitEnd(
    `${bar === "" ? "" : " "}${count}`,
    room - [...name].length - [...bar].length,
  );
  return `${" ".repeat(indent)}${name}${paint(bar, "cyan", view.color)}${rest} ${
    elapsed(step, view)
  }`;
}

function drawBar(share: number): string {
  const full = Math.floor(share * BAR_WIDTH);
  return "█".repeat(full) + "░".repeat(BAR_WIDTH - full);
}

/** Such as "12.0 MiB of 80.0 MiB" or "300 of 1200 files". */
function formatAmount({ done, total, unit }: NonNullable<Step["progress"]>): string {
  if (total === null) return formatCount(done, unit);
  const first = unit === "bytes" ? bytesText(done) : `${done}`;
  return `${first} of ${formatCount(total, unit)}`;
}

function formatCount(count: number, unit: string): string {
  if (unit !== "bytes") return `${count}${unit === "" ? "" : ` ${unit}`}`;
  return bytesText(count);
}

function elapsed(step: Step, view: View): string {
  const text = formatElapsed((step.endMs ?? view.nowMs) - step.startMs);
  return paint(fitStart(text, TIME_WIDTH), "dim", view.color);
}

function spinner(nowMs: number): string {
  return SPINNER[Math.floor(nowMs / SPINNER_MS) % SPINNER.length]!;
}

/** The last line is the newest; what does not fit is folded at the top. */
function foldTo(lines: string[], view: View): string[] {
  const height = view.height ?? Infinity;
  if (lines.length <= height) return lines;
  const kept = lines.slice(lines.length - Math.max(1, height - 1));
  const note = fit(`… ${lines.length - kept.length} lines above`, view.width);
  return [paint(note, "dim", view.color), ...kept];
}

function deepestRunning(state: ProgressState, step: Step): Step {
  let found = step;
  for (const other of state.steps.values()) {
    // Steps are in the order they started, so one pass goes down to the newest.
    if (other.parent === found.id && other.endMs === undefined) found = other;
  }
  return found;
}

function withProgress(step: Step, record: EventRecord): Step {
  const atMs = step.plain?.atMs ?? step.startMs;
  const due = record.t - atMs >= PLAIN_PROGRESS_MS;
  const plain = { atMs: due ? record.t : atMs, due };
  return { ...step, progress: readProgress(record), plain };
}

function readProgress(record: EventRecord): Step["progress"] {
  const { done, total, unit } = record.attrs ?? {};
  return {
    done: typeof done === "number" ? done : 0,
    total: typeof total === "number" ? total : null,
    unit: typeof unit === "string" ? cleanText(unit) : "",
  };
}

function depthBelow(state: ProgressState, parent: number | null): number {
  const above = parent === null ? undefined : state.steps.get(parent);
  return above === undefined ? 0 : above.depth + 1;
}

function withStep(state: ProgressState, step: Step): ProgressState {
  return { ...state, steps: new Map(state.steps).set(step.id, step) };
}

function changeStep(
  state: ProgressState,
  id: number,
  change: (step: Step) => Step,
): ProgressState {
  const step = state.steps.get(id);
  return step === undefined ? state : withStep(state, change(step));
}

/** A message on a root is told by the step that runs now: the root itself has no line. */
function withDetail(state: ProgressState, id: number, detail: string): ProgressState {
  const step = state.steps.get(id);
  if (step === undefined || step.depth > 0) {
    return changeStep(state, id, (found) => ({ ...found, detail }));
  }
  const running = [...state.steps.values()].findLast((other) =>
    other.depth === 1 && other.endMs === undefined
  );
  return running === undefined ? state : withStep(state, { ...running, detail });
}
