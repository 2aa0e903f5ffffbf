/**
 * What applying an object would change, for people: two texts of YAML compared line by line. No value of a Secret is
 * ever in it. Pure.
 * It must not talk to a cluster.
 *
 * @module
 */
import { diffArrays } from "diff";
import { stringify } from "yaml";
import type { KubeObject } from "../cluster/api.ts";

/** Lines around a change. */
const CONTEXT = 3;
/** Longer values of one line, such as a packed chart, are told by their length. */
const MAX_VALUE = 300;
/** With more changed lines the comparison would take too long; then all lines are told. */
const MAX_CHANGES = 4000;

const SERVER_FIELDS = [
  ...["managedFields", "resourceVersion", "uid", "generation", "creationTimestamp"],
  ...["selfLink", "deletionTimestamp", "deletionGracePeriodSeconds"],
];
/** kubectl's client-side apply keeps a whole Secret in here. */
const LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration";

/** What is compared: without what the server adds, and without secrets. */
type Plain = Record<string, unknown>;

/** The difference of two states of an object as lines with "+", "-" or " " in front; empty when there is none. */
export function objectDiff(
  before: KubeObject | undefined,
  after: KubeObject | undefined,
): string {
  const [old, now] = [before && plain(before), after && plain(after)];
  hideSecrets(before, after, old, now);
  const lines = (value: Plain | undefined) =>
    value === undefined ? [] : stringify(shortened(value), {
      lineWidth: 0,
      sortMapEntries: true,
      aliasDuplicateObjects: false,
    }).trimEnd().split("\n");
  return diffLines(lines(old), lines(now)).join("\n");
}

/** True when applying changes nothing that a person would see. */
export function isSame(before: KubeObject, after: KubeObject): boolean {
  const text = (object: KubeObject) => stringify(plain(object), { sortMapEntries: true });
  return text(before) === text(after);
}

function plain(object: KubeObject): Plain {
  const { status: _status, metadata, ...rest } = structuredClone(object) as KubeObject;
  const kept: Plain = { ...metadata };
  for (const field of SERVER_FIELDS) delete kept[field];
  const annotations = kept.annotations as Plain | undefined;
  if (annotations) {
    delete annotations[LAST_APPLIED];
    if (Object.keys(annotations).length === 0) delete kept.annotations;
  }
  return { ...rest, metadata: kept };
}

/** Puts words in the place of a Secret's values; which keys there are and whether a value changes is told. */
function hideSecrets(
  before: KubeObject | undefined,
  after: KubeObject | undefined,
  old: Plain | undefined,
  now: Plain | undefined,
): void {
  if ((after ?? before)?.kind !== "Secret") return;
  for (const field of ["data", "stringData"]) {
    const [a, b] = [before?.[field] ?? {}, after?.[field] ?? {}];
    const words = (own: Plain, other: Plain, changed: string) =>
      Object.fromEntries(
        Object.keys(own).map((
          key,
        ) => [key, key in other && other[key] !== own[key] ? `(hidden, ${changed})` : "(hidden)"]),
      );
    if (old && before?.[field]) old[field] = words(a, b, "before");
    if (now && after?.[field]) now[field] = words(b, a, "after");
  }
}

function shortened(value: unknown): unknown {
  if (typeof value === "string" && value.length > MAX_VALUE && !value.includes("\n")) {
    return `(${value.length} characters, ${checksum(value)})`;
  }
  if (Array.isArray(value)) return value.map(shortened);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, shortened(inner)]));
}

/** Tells two long values apart; no more than that. */
function checksum(text: string): string {
  let sum = 0;
  for (let at = 0; at < text.length; at++) sum = (Math.imul(sum, 31) + text.charCodeAt(at)) >>> 0;
  return sum.toString(16).padStart(8, "0");
}

/** Lines of both, marked, with a few unchanged ones around each change. */
export function diffLines(before: readonly string[], after: readonly string[]): string[] {
  const marked = markLines(before, after);
  const near = marked.map((_, at) =>
    marked.slice(Math.max(0, at - CONTEXT), at + CONTEXT + 1).some((line) => line[0] !== " ")
  );
  const lines: string[] = [];
  marked.forEach((line, at) => {
    if (near[at]) lines.push(line);
    else if (lines.length > 0 && lines.at(-1) !== " …") lines.push(" …");
  });
  if (lines.at(-1) === " …") lines.pop();
  return lines;
}

function markLines(before: readonly string[], after: readonly string[]): string[] {
  const chunks = diffArrays([...before], [...after], { maxEditLength: MAX_CHANGES });
  if (chunks === undefined) {
    return [...before.map((line) => `-${line}`), ...after.map((line) => `+${line}`)];
  }
  return chunks.flatMap(({ value, added, removed }) =>
    value.map((line) => `${added ? "+" : removed ? "-" : " "}${line}`)
  );
}
