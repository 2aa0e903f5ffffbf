/**
 * Properties of what comes over the guest's console ports: lines and frames.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { readLines } from "../../vm/base/lines.ts";
import { parseControlLine } from "../../vm/machine/control_port.ts";
import { encodeFrame, type Frame, readFrames } from "../../vm/machine/stdio_port.ts";
import { property, readOrRefused, streamOf } from "./properties.ts";

const word = fc.stringMatching(/^[a-z][\w-]{0,20}$/);
const value = fc.stringMatching(/^\S{0,20}$/);
/** What a mark is made of, in an order of its own, so that many lines are nearly one. */
const markParts = fc.array(
  fc.constantFrom(..."4.2|9.9| |a|ready|=|__proto__|constructor|k=v".split("|")),
  { maxLength: 6 },
).map((parts) => `4.2 a${parts.join("")}`);
const line = fc.oneof(
  markParts,
  fc.string({ unit: "binary", maxLength: 200 }),
  fc.array(
    fc.constantFrom(..."! = - . 0 9 a Z _ : ok error r1 k=v".split(" "), " ", "\r", "\u2028", "\0"),
    { maxLength: 30 },
  ).map((parts) => parts.join("")),
);
const cuts = fc.array(fc.nat(), { maxLength: 8 });
const bytes = (maxLength: number) => fc.uint8Array({ maxLength });

async function collect<T>(from: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const one of from) all.push(one);
  return all;
}

/** The lines' and frames' properties. */
export const STREAM_PROPERTIES = [
  property("parseControlLine() takes every line", [line], (text) => {
    const parsed = parseControlLine(text);
    if (parsed.kind === "mark") {
      assert(Number.isFinite(parsed.uptimeSeconds) && parsed.uptimeSeconds >= 0);
      assert(Object.getPrototypeOf(parsed.attrs) === Object.prototype);
      assert(Object.values(parsed.attrs).every((one) => typeof one === "string"));
    }
    if (parsed.kind === "other") assertEquals(parsed.text, text);
  }, [["9.9 a"], ["4.2 a __proto__=x"]]),
  property(
    "parseControlLine() reads the marks that the agent writes",
    [fc.nat(99_999), fc.nat(99), word, fc.array(fc.tuple(word, value), { maxLength: 5 })],
    (seconds, hundredths, name, attrs) => {
      const uptime = `${seconds}.${String(hundredths).padStart(2, "0")}`;
      const text = [uptime, name, ...attrs.map(([key, inner]) => `${key}=${inner}`)].join(" ");
      assertEquals(parseControlLine(text), {
        ...{ kind: "mark", uptimeSeconds: Number(uptime), name, attrs: Object.fromEntries(attrs) },
      });
    },
  ),
  property(
    "readLines() gives the same lines however the stream is cut",
    [fc.array(line.map((text) => text.replaceAll(/[\r\n]/g, "").toWellFormed())), cuts],
    async (lines, ends) => {
      const whole = new TextEncoder().encode(lines.map((text) => `${text}\n`).join(""));
      // A byte order mark at the start is the decoder's.
      if (lines[0]?.startsWith("\ufeff")) return;
      assertEquals(await collect(readLines(streamOf(whole, ends))), lines);
    },
  ),
  property(
    "readFrames() gives back what encodeFrame() wrote, however the stream is cut",
    [fc.array(fc.tuple(fc.nat(255), bytes(100)), { maxLength: 12 }), cuts, fc.nat(5)],
    async (frames, ends, missing) => {
      const parts = frames.map(([type, body]) => [...encodeFrame(type, body)]);
      const whole = Uint8Array.from(parts.flat());
      const cut = whole.subarray(0, Math.max(0, whole.length - missing));
      const got: Frame[] = await collect(readFrames(streamOf(cut, ends)));
      const kept = missing === 0 ? frames : frames.slice(0, got.length);
      assertEquals(got.map(({ type, body }) => [type, [...body]]), [
        ...kept.map(([type, body]) => [type, [...body]]),
      ]);
      assert(missing > 0 || got.length === frames.length);
    },
  ),
  property(
    "readFrames() takes any bytes",
    [bytes(300), cuts],
    async (data, ends) => {
      const frames = await readOrRefused(() => collect(readFrames(streamOf(data, ends))));
      const size = (frames ?? []).reduce((sum, { body }) => sum + 5 + body.length, 0);
      assert(size <= data.length);
    },
  ),
];
