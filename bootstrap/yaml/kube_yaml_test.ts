import { assertEquals, assertThrows } from "@std/assert";
import { parseAllDocuments } from "yaml";
import {
  controlCharacter,
  documentValue,
  fromJsonText,
  PARSE_OPTIONS,
  toJsonText,
} from "./kube_yaml.ts";
import cases from "./kube_yaml_cases.json" with { type: "json" };

/** Keys in order, as Go prints them. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).map(([key, inner]) => [key, sorted(inner)] as const);
  return Object.fromEntries(entries.sort(([a], [b]) => a < b ? -1 : 1));
}

function read(text: string): string {
  const [document] = parseAllDocuments(text, PARSE_OPTIONS);
  if (!document || document.errors.length > 0) throw new Error("it is no YAML");
  return toJsonText(sorted(documentValue(document as Parameters<typeof documentValue>[0])));
}

Deno.test("documentValue() reads what the cluster's reader reads, or refuses it", () => {
  for (const [text, wanted] of cases as [string, string | null][]) {
    if (wanted === null) assertThrows(() => read(text), Error, undefined, text);
    else assertEquals(read(text), wanted, text);
  }
});

Deno.test("documentValue() refuses aliases that contain themselves or unfold to too much", () => {
  assertThrows(() => read("a: &a [*a]"), Error, "contains itself");
  const level = (name: string, below: string) =>
    `${name}: &${name} [${Array(20).fill(`*${below}`).join()}]`;
  const bomb = ["a: &a [1]", level("b", "a"), level("c", "b"), level("d", "c"), level("e", "d")];
  assertThrows(() => read(bomb.join("\n")), Error, "too many values");
});

Deno.test("fromJsonText() keeps the digits of integers", () => {
  assertEquals(fromJsonText('{"a":9007199254740993,"b":[1,"9007199254740993"],"c":0.1e1}'), {
    ...{ a: 9007199254740993n, b: [1, "9007199254740993"], c: 1 },
  });
});

Deno.test("documentValue() refuses a key that comes twice by its value", () => {
  assertThrows(() => read("a: {n: 1, no: 2}"), Error, 'the key "false" comes twice');
  assertThrows(() => read("1: a\n0x1: b"), Error, 'the key "1" comes twice');
});

Deno.test("documentValue() refuses in braces what Go's reader takes for another key", () => {
  for (const text of ["a: {b:}", "a: [b:]", "a: [?b]", "a: {?b: 1}"]) {
    assertThrows(() => read(text), Error, undefined, text);
  }
  assertEquals(read('a: {b: , "c":, d}'), '{"a":{"b":null,"c":null,"d":null}}');
});

Deno.test("toJsonText() gives JSON that a YAML 1.1 reader takes for the same value", () => {
  assertEquals(
    toJsonText({ a: "on", b: [1, 2n ** 63n], c: undefined, d: null }),
    '{"a":"on","b":[1,9223372036854775808],"d":null}',
  );
  assertEquals(toJsonText([-0, 0]), "[-0.0,0]");
  assertEquals(toJsonText("😀/\u0007\u0085\u007f"), '"😀/\\u0007\\u0085\\u007f"');
});

Deno.test("controlCharacter() finds what no YAML may hold", () => {
  assertEquals(controlCharacter("a: 1\t\r\n"), undefined);
  const place = (text: string) => controlCharacter(text)?.offset;
  assertEquals(place('s: "a\u0007b"'), 5);
  // Line breaks for a reader of YAML 1.1, and for that of the host characters of a text.
  for (const text of ["s: a\u2028b", "s: a\u2029b", "s: a\u0085b", "s: a\rb"]) {
    assertEquals(place(text), 4, JSON.stringify(text));
  }
  assertEquals(place('{"s": "a\u2028b\u007f"}'), undefined);
});
