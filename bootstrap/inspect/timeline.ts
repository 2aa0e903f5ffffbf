/**
 * The boot timeline: host spans and guest marks of one run on one line of time, as JSON and as a table.
 * Pure: records in, rows and lines out. It must not read files nor know what a step does.
 *
 * @module
 */
import type { EventRecord, JsonValue } from "../../vm/base/event.ts";
import { cleanText } from "../../vm/base/plain_text.ts";
import { fit, fitEnd, fitStart, paint } from "../view/text.ts";

/** One span of the host or one mark of the guest. */
export interface TimelineRow {
  /** Whose clock it comes from: a span is the host's, a mark the guest's. */
  readonly kind: "span" | "mark";
  /** What it is called. */
  readonly name: string;
  /** Nesting of a span, 0 for a root; a mark stands one below the roots. */
  readonly depth: number;
  /** Milliseconds after the run's start. */
  readonly atMs: number;
  /** Null for a mark and for a span that has not ended. */
  readonly tookMs: number | null;
  /** How it ended, if it did. */
  readonly outcome: "ok" | "failed" | "running" | "mark";
  /** Of a mark: the guest's own clock, seconds. */
  readonly uptimeSeconds?: number;
  /** Why a span failed. */
  readonly error?: string;
}

/** One run; plain JSON. Rows are in the order of time. */
export interface Timeline {
  /** Unix milliseconds of the run's start. */
  readonly startMs: number;
  /** Milliseconds from the start to the last record. */
  readonly lengthMs: number;
  /** Spans and marks, in the order of time. */
  readonly rows: readonly TimelineRow[];
}

/** How the table is drawn. */
export interface TimelineTextOptions {
  /** Columns; 80 when absent, and never more. */
  readonly width?: number;
  /** Whether ANSI colours are wanted. */
  readonly color: boolean;
}

const MAX_WIDTH = 80;
const NUMBER_WIDTH = 9;
const BAR_WIDTH = 24;

/**
 * The records of the last run: events.jsonl is appended to, and each run counts its spans from 1.
 */
export function lastRun(records: readonly EventRecord[]): readonly EventRecord[] {
  const start = records.findLastIndex((record) => record.kind === "start" && record.id === 1);
  return start < 0 ? records : records.slice(start);
}

/**
 * Builds the timeline of one run's records. A mark stands where the guest's clock puts it and not where the host read
 * it: uptime 0 is the earliest host time that any mark of that boot allows, in practice that of its first mark.
 */
export function buildTimeline(records: readonly EventRecord[]): Timeline {
  const [first] = records;
  if (first === undefined) return { startMs: 0, lengthMs: 0, rows: [] };
  const startMs = first.t;
  const endMs = Math.max(...records.map((record) => record.t));
  const rows = [...spanRows(records, startMs), ...markRows(records, startMs)];
  rows.sort((a, b) => a.atMs - b.atMs);
  return { startMs, lengthMs: roundMs(endMs - startMs), rows };
}

/** The timeline as lines of a table: when, how long, what, and where on the line of time. */
export function renderTimeline(timeline: Timeline, options: TimelineTextOptions): string[] {
  const width = Math.max(40, Math.min(options.width ?? MAX_WIDTH, MAX_WIDTH));
  const barWidth = width >= 70 ? BAR_WIDTH : 0;
  const nameWidth = width - 2 * NUMBER_WIDTH - 2 - (barWidth > 0 ? barWidth + 3 : 0);
  const head = `${fitStart("at s", NUMBER_WIDTH)}${fitStart("took s", NUMBER_WIDTH)}  step`;
  return [
    paint(head, "bold", options.color),
    ...timeline.rows.map((row) => {
      const label = `${"  ".repeat(row.depth)}${row.kind === "mark" ? "guest: " : ""}${row.name}`;
      const text = row.outcome === "failed" ? `${fit(label, nameWidth - 9)} (failed)` : label;
      const name = fitEnd(text, nameWidth);
      const bar = barWidth > 0 ? ` |${drawBar(row, timeline.lengthMs, barWidth)}|` : "";
      return fitStart(formatSeconds(row.atMs), NUMBER_WIDTH) +
        fitStart(formatTook(row), NUMBER_WIDTH) + "  " +
        colorName(name, row, options.color) + paint(bar, "dim", options.color);
    }),
  ];
}

function spanRows(records: readonly EventRecord[], startMs: number): TimelineRow[] {
  const depths = new Map<number, number>();
  const ends = new Map<number, EventRecord>();
  for (const record of records) if (record.kind === "end") ends.set(record.id, record);
  return records.filter((record) => record.kind === "start").map((record) => {
    const depth = record.parent === null ? 0 : (depths.get(record.parent) ?? -1) + 1;
    depths.set(record.id, depth);
    const end = ends.get(record.id);
    return {
      kind: "span",
      name: cleanText(record.name),
      depth,
      atMs: roundMs(record.t - startMs),
      tookMs: end === undefined ? null : roundMs(end.t - record.t),
      outcome: end === undefined ? "running" : end.error === undefined ? "ok" : "failed",
      ...(end?.error === undefined ? {} : { error: cleanText(end.error) }),
    };
  });
}

interface Boot {
  readonly marks: { readonly record: EventRecord; readonly uptime: number }[];
  originMs: number;
}

function markRows(records: readonly EventRecord[], startMs: number): TimelineRow[] {
  const boots: Boot[] = [];
  let boot: Boot | undefined;
  let lastUptime = 0;
  for (const record of records) {
    if (record.kind !== "mark") continue;
    const uptime = readUptime(record.attrs?.uptime);
    if (uptime === undefined) continue;
    // A clock that went back is another boot's.
    if (boot === undefined || uptime < lastUptime - 1) {
      boot = { marks: [], originMs: Infinity };
      boots.push(boot);
    }
    lastUptime = uptime;
    boot.marks.push({ record, uptime });
    boot.originMs = Math.min(boot.originMs, record.t - uptime * 1000);
  }
  return boots.flatMap((boot) =>
    boot.marks.map(({ record, uptime }) => ({
      kind: "mark",
      name: cleanText(record.name),
      depth: 1,
      atMs: roundMs(boot.originMs + uptime * 1000 - startMs),
      tookMs: null,
      outcome: "mark",
      uptimeSeconds: uptime,
    }))
  );
}

function readUptime(value: JsonValue | undefined): number | undefined {
  return typeof value === "number" && Number.isFinite(value) && value >= 0 ? value : undefined;
}

function drawBar(row: TimelineRow, lengthMs: number, width: number): string {
  const column = (ms: number) =>
    Math.min(width - 1, Math.max(0, Math.floor(ms / Math.max(1, lengthMs) * width)));
  const from = column(row.atMs);
  if (row.kind === "mark") return " ".repeat(from) + "+" + " ".repeat(width - from - 1);
  const to = column(row.tookMs === null ? lengthMs : row.atMs + row.tookMs);
  const body = row.tookMs === null ? "~" : "=";
  return " ".repeat(from) + body.repeat(to - from + 1) + " ".repeat(width - to - 1);
}

function colorName(name: string, row: TimelineRow, color: boolean): string {
  if (row.outcome === "failed") return paint(name, "red", color);
  return row.kind === "mark" ? paint(name, "cyan", color) : name;
}

function formatTook(row: TimelineRow): string {
  if (row.kind === "mark") return "";
  return row.tookMs === null ? "runs" : formatSeconds(row.tookMs);
}

function formatSeconds(ms: number): string {
  return (ms / 1000).toFixed(2);
}

/** Records carry fractions that no reader needs. */
function roundMs(ms: number): number {
  return Math.round(ms * 10) / 10;
}
