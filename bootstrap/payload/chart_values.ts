/**
 * Which values of a payload its chart does not know. Helm takes any value and ignores the unknown ones in silence, so a
 * value that a newer version of a chart has renamed would just stop working.
 *
 * @module
 */
import { type Document, parseDocument } from "yaml";
import type { JsonValue } from "../../vm/base/event.ts";
import { documentValue, PARSE_OPTIONS } from "../yaml/kube_yaml.ts";
import type { JsonObject } from "./payload.ts";

/** The parts of a packed chart that show which values it takes. */
interface ChartText {
  readonly defaults: JsonValue;
  /** All templates of the chart itself. */
  readonly templates: string;
  /** Names under which charts inside it get values of their own. */
  readonly inner: ReadonlySet<string>;
}

/**
 * The paths of values, such as `image.tag`, that neither the chart's values.yaml nor its templates have. Values of charts
 * inside the chart, and those below an empty default, are not looked at.
 */
export async function unknownValues(
  archive: Uint8Array,
  values: JsonObject,
): Promise<string[]> {
  if (Object.keys(values).length === 0) return [];
  const chart = await readChart(archive);
  const unknown: string[] = [];
  for (const [key, value] of Object.entries(values)) {
    if (key === "global" || chart.inner.has(key)) continue;
    collect(chart, [key], value, child(chart.defaults, key), unknown);
  }
  return unknown;
}

function collect(
  chart: ChartText,
  path: readonly string[],
  value: JsonValue,
  fallback: JsonValue | undefined,
  unknown: string[],
): void {
  if (fallback === undefined && !isMentioned(chart.templates, path)) {
    unknown.push(path.join("."));
    return;
  }
  // An empty default, or one that is not a group of fields, allows any value below it.
  if (!isGroup(value) || !isGroup(fallback) || Object.keys(fallback).length === 0) return;
  for (const [key, inner] of Object.entries(value)) {
    collect(chart, [...path, key], inner, child(fallback, key), unknown);
  }
}

/** Whether a template uses the value by its whole path, or has one of its parents as a whole and names the key. */
function isMentioned(templates: string, path: readonly string[]): boolean {
  const has = (pattern: string) => new RegExp(pattern).test(templates);
  const whole = path.map(escape).join("\\.");
  if (has(`\\.Values\\.${whole}(?![\\w-])`)) return true;
  const key = escape(path.at(-1)!);
  if (has(`"${key}"`) && has("index \\$?\\.Values")) return true;
  const parents = path.slice(0, -1).map((_, at) => path.slice(0, at + 1).map(escape).join("\\."));
  return has(`\\.${key}(?![\\w-])`) &&
    parents.some((parent) => has(`\\.Values\\.${parent}(?![\\w.-])`));
}

async function readChart(archive: Uint8Array): Promise<ChartText> {
  const { readChartFiles } = await import("./tar.ts");
  const entries = await readChartFiles(archive);
  const text = (data: Uint8Array) => new TextDecoder().decode(data);
  const inner = new Set<string>();
  let defaults: JsonValue = {};
  let templates = "";
  for (const { name, data } of entries) {
    const [, ...below] = name.split("/");
    const path = below.join("/");
    const [folder, chart] = below;
    if (path === "values.yaml") defaults = read(text(data)) ?? {};
    else if (path === "Chart.yaml") addDependencies(read(text(data)), inner);
    else if (folder === "templates") templates += text(data);
    else if (folder === "charts" && chart !== undefined) inner.add(chart.replace(/-\d.*$/, ""));
  }
  return { defaults, templates, inner };
}

function addDependencies(about: JsonValue | undefined, inner: Set<string>): void {
  const dependencies = child(about, "dependencies");
  if (!Array.isArray(dependencies)) return;
  for (const one of dependencies) {
    for (const name of [child(one, "name"), child(one, "alias")]) {
      if (typeof name === "string") inner.add(name);
    }
  }
}

/** A file that is not YAML is skipped: Helm reports it with its place. */
function read(text: string): JsonValue | undefined {
  try {
    const document = parseDocument(text, PARSE_OPTIONS) as Document.Parsed;
    return document.errors.length > 0 ? undefined : documentValue(document) as JsonValue;
  } catch {
    return undefined;
  }
}

function child(value: JsonValue | undefined, key: string): JsonValue | undefined {
  return isGroup(value) ? value[key] : undefined;
}

function isGroup(value: JsonValue | undefined): value is { readonly [key: string]: JsonValue } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function escape(text: string): string {
  return text.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&");
}
