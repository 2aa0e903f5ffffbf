/**
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

/** Values that one document may unfold to by aliases. */
const MAX_VALUES = 200_000;

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

  read(node: Node | null): KubeValue {
    if (node === null) return null;
    if (++this.#values > MAX_VALUES) throw fault(node, "its aliases unfold to too many values");
    if (isScalar(node)) return scalarOf(node);
    if (isAlias(node)) {
      const target = node.resolve(this.document);
      if (target === undefined) throw fault(node, `the alias "${node.source}" leads nowhere`);
      if (this.#open.has(target)) throw fault(node, `the alias "${node.source}" contains itself`);
      return this.read(target);
    }
    this.#open.add(node);
    try {
      if (isSeq(node)) return node.items.map((item) => this.read(asNode(item)));
      if (isMap(node)) return this.#map(node);
    } finally {
      this.#open.delete(node);
    }
    throw fault(node, "it is nothing that JSON can hold");
  }

  #map(map: YAMLMap): KubeValue {
    const own: [string, KubeValue][] = [];
    const merged: [string, KubeValue][] = [];
    for (const { key, value } of map.items) {
      const keyNode = asNode(key);
      if (isScalar(keyNode) && keyNode.type === "PLAIN" && keyNode.source === "<<") {
        merged.push(...this.#merged(asNode(value), map));
      } else own.push([this.#key(keyNode, map), this.read(asNode(value))]);
    }
    // The first of several merged groups wins, and own keys over all of them.
    return Object.fromEntries([...merged.reverse(), ...own]);
  }

  #merged(node: Node | null, map: YAMLMap): [string, KubeValue][] {
    const value = this.read(node);
    const groups = Array.isArray(value) ? value : [value];
    return groups.flatMap((group) => {
      if (typeof group !== "object" || group === null || Array.isArray(group)) {
        throw fault(node ?? map, "only a group of fields can be merged");
      }
      return Object.entries(group);
    });
  }

  #key(node: Node | null, map: YAMLMap): string {
    const value = this.read(node);
    if (value === null || typeof value === "object") {
      throw fault(
        node ?? map,
        "a key has to be a text; for a template such as {{ … }} put the value into quotes",
      );
    }
    return String(value);
  }
}

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
      return typeof value === "bigint" || Number.isInteger(value) ? value : undefined;
    case "float":
      return typeof value === "number" || typeof value === "bigint" ? Number(value) : undefined;
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
  if (text.startsWith(".")) {
    return FLOAT.test(text) ? Number(text) : text;
  }
  const plain = text.replaceAll("_", "");
  return integer(plain) ?? (FLOAT.test(plain) ? Number(plain) : text);
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

/** Where a text has a character that no YAML may hold; undefined for none. Pure. */
export function controlCharacter(text: string): { offset: number; name: string } | undefined {
  const offset = text.search(CONTROL);
  if (offset < 0) return undefined;
  return { offset, name: `U+${text.charCodeAt(offset).toString(16).padStart(4, "0")}` };
}
