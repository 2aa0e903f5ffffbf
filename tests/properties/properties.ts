/**
 * Runs properties: what has to hold for every input, tried on many that are drawn at random. A failure names its seed and
 * the smallest input; add that as an example beside the fix.
 *
 * @module
 */
import fc from "fast-check";
import { GatewayError } from "../../vm/base/error.ts";

/** One of them. */
export interface Property {
  readonly name: string;
  readonly holds: fc.IRawProperty<unknown>;
  /** Inputs that failed once, and those that no generator finds soon. */
  readonly examples?: readonly unknown[];
}

/** A property with the types of its own inputs forgotten. */
export function property<T extends [unknown, ...unknown[]]>(
  name: string,
  arbitraries: { [K in keyof T]: fc.Arbitrary<T[K]> },
  holds: (...inputs: T) => void | Promise<void>,
  examples: readonly T[] = [],
): Property {
  const inputs = fc.tuple(...arbitraries as fc.Arbitrary<unknown>[]) as fc.Arbitrary<unknown>;
  const checked = fc.asyncProperty(inputs, async (drawn) => await holds(...drawn as T));
  return {
    name,
    holds: checked as unknown as fc.IRawProperty<unknown>,
    examples: examples.map((one) => [one]),
  };
}

/** A test for each, of so many seconds. */
export function testProperties(seconds: number, properties: readonly Property[]): void {
  for (const { name, holds, examples } of properties) {
    Deno.test(`${name}, tried for ${seconds} s`, async () => {
      await fc.assert(holds, {
        examples: examples as unknown[],
        numRuns: 1_000_000_000,
        interruptAfterTimeLimit: seconds * 1000,
        markInterruptAsFailure: false,
      });
    });
  }
}

/** What reading gave; undefined for a GatewayError. Any other error is a failure. */
export async function readOrRefused<T>(read: () => T | Promise<T>): Promise<T | undefined> {
  try {
    return await read();
  } catch (error) {
    if (error instanceof GatewayError) return undefined;
    throw error;
  }
}

/** The file that these characters make with some of them changed, dropped, doubled or put elsewhere. */
export function mutated(seeds: readonly string[], words: readonly string[]): fc.Arbitrary<string> {
  const change = fc.record({
    at: fc.double({ min: 0, max: 1, noNaN: true }),
    length: fc.nat(12),
    to: fc.oneof(fc.constantFrom(...words), fc.string({ unit: "binary", maxLength: 8 })),
  });
  return fc.tuple(fc.constantFrom(...seeds), fc.array(change, { maxLength: 6 })).map(
    ([seed, changes]) =>
      changes.reduce((text, { at, length, to }) => {
        const start = Math.floor(at * text.length);
        return text.slice(0, start) + to + text.slice(start + length);
      }, seed),
  );
}

/** A stream of these bytes in pieces that end where the numbers say. */
export function streamOf(bytes: Uint8Array, cuts: readonly number[]): ReadableStream<Uint8Array> {
  const ends = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b);
  const pieces = [...ends, bytes.length].map((end, at) => bytes.slice(ends[at - 1] ?? 0, end));
  return ReadableStream.from(pieces.filter(({ length }) => length > 0));
}
