/**
 * This room reads YAML the way Kubernetes does, with line and column of each field. What the fields mean is in the
 * room payload. Read source.ts next.
 *
 * YAML as the cluster's programs read it: kubectl, Helm, k3s and kubenode take sigs.k8s.io/yaml, which keeps to YAML 1.1 in
 * its own way (`0644` is octal, `yes` and `on` are true, large integers keep their digits). What the host checks or sends
 * on has to mean the same there. kube_yaml_cases.json holds both readers to one table.
 *
 * @module
 */
import {
  type Document,
  isAlias,
  isMap,
  isNode,
  isScalar,
  isSeq,
  type Node,
  type Pair,
  type ParseOptions,
  type Scalar,
  type SchemaOptions,
  type YAMLMap,
} from "yaml";

/** How documents are parsed for {@linkcode documentValue}: every scalar stays the text that it is. */
export const PARSE_OPTIONS: ParseOptions & SchemaOptions = {
  schema: "failsafe",
  // The reader below does it, as Go's does.
  merge: false,
  resolveKnownTags: false,
  // Which blanks stand after a key's colon.
  keepSourceTokens: true,
};

/** A value as JSON has it; an integer beyond 2^53 is a bigint. */
export type KubeValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | readonly KubeValue[]
  | { readonly [key: string]: KubeValue };

/** What a document holds that the cluster's reader refuses. */
export class KubeYamlError extends Error {
  /** Where, as an offset into the text. */
  constructor(message: string, readonly offset: number) {
    super(message);
  }
}

/**
 * What a parser of YAML gives. It calls itself for each level, so that a text with enough of them ends its stack.
 *
 * @throws KubeYamlError
 */
export function withinStack<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw error instanceof RangeError ? new KubeYamlError("it is nested too deeply", 0) : error;
  }
}

/** Values that one document may unfold to by aliases. */
const MAX_VALUES = 200_000;

/** How deep values may be nested; whatever works on them next needs room on its stack, too. */
const MAX_DEPTH = 1000;

/**
 * The value of a document that was parsed with {@linkcode PARSE_OPTIONS}.
 *
 * @throws KubeYamlError
 */
export function documentValue(document: Document.Parsed): KubeValue {
  return new Reader(document).read(document.contents);
}

class Reader {
  #values = 0;
  readonly #open = new Set<Node>();

  constructor(private readonly document: Document.Parsed) {}

  /** `flow`: it stands between brackets or braces. */
  read(node: Node | null, flow = false): KubeValue {
    if (node === null) return null;
    if (++this.#values > MAX_VALUES) throw fault(node, "its aliases unfold to too many values");
    if (isScalar(node)) {
      if (flow && node.type === "PLAIN" && /^[?:]/.test(node.source ?? "")) {
        throw fault(node, "a text that begins with ? or : has to stand in quotes here");
      }
      return scalarOf(node);
    }
    if (isAlias(node)) {
      const target = node.resolve(this.document);
      if (target === undefined) throw fault(node, `the alias "${node.source}" leads nowhere`);
      if (this.#open.has(target)) throw fault(node, `the alias "${node.source}" contains itself`);
      return this.read(target);
    }
    if (this.#open.size >= MAX_DEPTH) throw fault(node, "it is nested too deeply");
    this.#open.add(node);
    try {
      if (isSeq(node)) return node.items.map((item) => this.read(asNode(item), node.flow));
      if (isMap(node)) return this.#map(node);
    } finally {
      this.#open.delete(node);
    }
    throw fault(node, "it is nothing that JSON can hold");
  }

  #map(map: YAMLMap): KubeValue {
    const fields = new Map<string, KubeValue>();
    const own = new Set<string>();
    for (const pair of map.items) {
      const key = asNode(pair.key);
      if (isScalar(key) && key.type === "PLAIN" && key.source === "<<") {
        // As in Go's reader a group takes the place of the keys above it, and gives way to those below.
        for (const [name, value] of this.#merged(asNode(pair.value), map)) fields.set(name, value);
        continue;
      }
      if (map.flow) checkFlowKey(pair, key);
      const name = this.#key(key, map);
      if (own.has(name)) throw fault(key ?? map, `the key "${name}" comes twice`);
      own.add(name);
      fields.set(name, this.read(asNode(pair.value), map.flow));
    }
    return Object.fromEntries(fields);
  }

  /** The fields of what is merged; of several groups the first one wins. */
  #merged(node: Node | null, map: YAMLMap): [string, KubeValue][] {
    const value = this.read(node);
    const groups: readonly KubeValue[] = Array.isArray(value) ? value.toReversed() : [value];
    return groups.flatMap((group) => {
      if (typeof group !== "object" || group === null || Array.isArray(group)) {
        throw fault(node ?? map, "only a group of fields can be merged");
      }
      return Object.entries(group);
    });
  }

  #key(node: Node | null, map: YAMLMap): string {
    const value = this.read(node, map.flow);
    if (value === null || typeof value === "object") {
      throw fault(
        node ?? map,
        "a key has to be a text; for a template such as {{ … }} put the value into quotes",
      );
    }
    if (typeof value === "bigint" && value >= 2n ** 63n) {
      throw fault(node ?? map, "the key is too large a number; put it into quotes");
    }
    if (typeof value !== "number" || isScalar(node) && isWhole(node)) return String(value);
    return floatKey(value);
  }
}

/** Refuses what Go's reader takes for another key: in `{a:}` the colon is a part of it. */
function checkFlowKey(pair: Pair, key: Node | null): void {
  const { sep = [], value } = pair.srcToken ?? {};
  const bare = isScalar(key) && key.type === "PLAIN";
  if (bare && value === undefined && sep.at(-1)?.type === "map-value-ind") {
    throw fault(key, "a blank is missing after its colon");
  }
}

function isWhole(node: Scalar): boolean {
  return integer(String(node.value).replaceAll("_", "")) !== undefined;
}

/** A float as a key: Go's reader writes it as the shortest text for its 32 bits. */
function floatKey(value: number): string {
  const single = Math.fround(value);
  if (!Number.isFinite(single)) return single > 0 ? ".inf" : "-.inf";
  if (single === 0) return Object.is(single, -0) ? "-0" : "0";
  let digits = 1;
  while (Math.fround(Number(single.toPrecision(digits))) !== single) digits++;
  const [mantissa, exponent] = single.toExponential(digits - 1).split("e");
  const size = Number(exponent);
  if (size < -4 || size >= FLOAT_KEY_EXPONENT) {
    return `${mantissa}e${size < 0 ? "-" : "+"}${String(Math.abs(size)).padStart(2, "0")}`;
  }
  return String(Number(single.toPrecision(digits)));
}

/** From this power of ten on Go writes a float with an exponent. */
const FLOAT_KEY_EXPONENT = 6;

function asNode(value: unknown): Node | null {
  return isNode(value) ? value : null;
}

function fault(node: Node, message: string): KubeYamlError {
  return new KubeYamlError(message, node.range?.[0] ?? 0);
}

function scalarOf(node: Scalar): KubeValue {
  const text = String(node.value ?? "");
  if (!text.isWellFormed()) throw fault(node, "it holds half of a surrogate pair");
  if (node.tag !== undefined && node.tag !== "tag:yaml.org,2002:str") {
    const value = taggedValue(node.tag, text);
    if (value === undefined) throw fault(node, `the tag ${node.tag} does not fit its value`);
    return value;
  }
  if (node.type !== "PLAIN" || node.tag !== undefined) return text;
  const value = plainValue(text);
  if (typeof value === "number" && !Number.isFinite(value)) {
    throw fault(node, `JSON has no number "${text}"`);
  }
  return value;
}

function taggedValue(tag: string, text: string): KubeValue | undefined {
  const value = plainValue(text);
  switch (tag.replace("tag:yaml.org,2002:", "")) {
    case "int":
      return integer(text.replaceAll("_", ""));
    case "float":
      return typeof value === "number" || typeof value === "bigint" && value < 2n ** 63n
        ? Number(value)
        : undefined;
    case "bool":
      return typeof value === "boolean" ? value : undefined;
    case "null":
      return value === null ? null : undefined;
    case "binary":
      try {
        return new TextDecoder("utf-8", { fatal: true })
          .decode(Uint8Array.fromBase64(text.replaceAll(/\s/g, "")));
      } catch {
        return undefined;
      }
  }
  return undefined;
}

const WORDS: ReadonlyMap<string, KubeValue> = new Map<string, KubeValue>([
  ...["y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"]
    .map((word) => [word, true] as const),
  ...["n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"]
    .map((word) => [word, false] as const),
  ...["", "~", "null", "Null", "NULL"].map((word) => [word, null] as const),
  ...[".nan", ".NaN", ".NAN"].map((word) => [word, NaN] as const),
  ...[".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"].map((word) => [word, Infinity] as const),
  ...["-.inf", "-.Inf", "-.INF"].map((word) => [word, -Infinity] as const),
]);

/**
 * What a plain scalar means, as Go's reader has it: its words; then, of what begins with a digit, a sign or a dot and has its
 * underscores taken out, an integer of 64 bits (0x, 0o, 0b, or octal by a leading 0), a float, or a text. Pure.
 */
export function plainValue(text: string): null | boolean | number | bigint | string {
  const word = WORDS.get(text);
  if (word !== undefined) return word as null | boolean | number;
  if (!/^[-+0-9.]/.test(text)) return text;
  if (text.startsWith(".")) return float(text.replaceAll(/(?<=[0-9])_(?=[0-9])/g, "")) ?? text;
  const plain = text.replaceAll("_", "");
  return integer(plain) ?? float(plain) ?? text;
}

/** Undefined for what is no float, or too large for one. */
function float(plain: string): number | undefined {
  const value = FLOAT.test(plain) ? Number(plain) : NaN;
  return Number.isFinite(value) ? value : undefined;
}

const FLOAT = /^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$/;
const INTEGER = /^([-+]?)(0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO][0-7]+|0[0-7]*|[1-9][0-9]*)$/;
const [MIN, MAX] = [-(2n ** 63n), 2n ** 64n - 1n];

function integer(plain: string): number | bigint | undefined {
  const [, sign, digits] = INTEGER.exec(plain) ?? [];
  if (digits === undefined) return undefined;
  const octal = /^0[0-7]+$/.test(digits);
  const size = BigInt(octal ? `0o${digits.slice(1)}` : digits);
  const value = sign === "-" ? -size : size;
  // Go's unsigned numbers take no sign.
  if (value < MIN || value > MAX || (sign !== "" && value >= 2n ** 63n)) return undefined;
  return Number.isSafeInteger(Number(value)) ? Number(value) : value;
}

/**
 * JSON that every YAML reader takes for the same value: one line, integers with all their digits, and no character that Go's
 * YAML reader refuses. Pure.
 */
export function toJsonText(value: unknown): string {
  if (typeof value === "bigint") return String(value);
  if (Object.is(value, -0)) return "-0.0";
  if (typeof value === "string") return quote(value);
  if (Array.isArray(value)) return `[${value.map((one) => toJsonText(one ?? null)).join(",")}]`;
  if (typeof value === "object" && value !== null) {
    const entries = Object.entries(value).filter(([, inner]) => inner !== undefined);
    return `{${entries.map(([key, inner]) => `${quote(key)}:${toJsonText(inner)}`).join(",")}}`;
  }
  return JSON.stringify(value) ?? "null";
}

function quote(text: string): string {
  return JSON.stringify(text).replaceAll(
    /[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

// deno-lint-ignore no-control-regex
const CONTROL = /[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]/;
/** Line breaks in YAML 1.1 and plain characters in YAML 1.2. */
const BREAK = /\r(?!\n)|[\x85\u2028\u2029]/;

/**
 * Where a text has a character that Go's reader refuses or takes for the end of a line; undefined for none. A text that is
 * JSON may hold them, since it is read as JSON. Pure.
 */
export function controlCharacter(text: string): { offset: number; why: string } | undefined {
  const [control, lineBreak] = [text.search(CONTROL), text.search(BREAK)];
  const offset = control < 0 ? lineBreak : control;
  if (offset < 0 || isJson(text)) return undefined;
  const name = `U+${text.charCodeAt(offset).toString(16).padStart(4, "0")}`;
  const why = control < 0
    ? `it holds ${name}, which is a line break in YAML 1.1`
    : `it holds the control character ${name}, which no YAML may`;
  return { offset, why };
}

function isJson(text: string): boolean {
  try {
    return /^\s*\{/.test(text) && typeof JSON.parse(text) === "object";
  } catch {
    return false;
  }
}

/** JSON with all digits of its integers: those beyond 2^53 become a bigint. @throws SyntaxError */
export function fromJsonText(text: string): unknown {
  if (!/[0-9]{16}/.test(text)) return JSON.parse(text);
  const exact = (_key: string, value: unknown, { source = "" }: { source?: string }) =>
    typeof value === "number" && !Number.isSafeInteger(value) && /^-?[0-9]+$/.test(source)
      ? BigInt(source)
      : value;
  return JSON.parse(text, exact as (key: string, value: unknown) => unknown);
}
