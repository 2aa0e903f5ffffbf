/**
 * One figure, and how to measure one: minimum of several, since noise only ever adds.
 *
 * @module
 */

/** A measured figure. */
export interface Row {
  readonly name: string;
  readonly value: number;
  /** "s", "ms", "KiB", "MiB", "files", "cores", or "x" for a ratio of two measurements of the same run. */
  readonly unit: string;
  /** The figure an issue names; no limit means the row only reports. */
  readonly limit?: number;
  readonly note?: string;
}

/** Runs a measurement several times, one after the other, and returns the sorted values. */
export async function several(times: number, measure: () => Promise<number>): Promise<number[]> {
  const values: number[] = [];
  for (let at = 0; at < times; at++) values.push(await measure());
  return values.sort((a, b) => a - b);
}

/** Seconds that the work takes. */
export async function seconds(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
}

/** A row of the median of sorted seconds, with the worst of them beside it. */
export function medianRow(name: string, sorted: readonly number[], limit?: number): Row {
  return {
    ...{ name: `${name}, median of ${sorted.length}`, value: median(sorted), unit: "s" },
    ...limit === undefined ? {} : { limit },
    note: `worst ${sorted.at(-1)!.toFixed(2)} s`,
  };
}

/** The middle of sorted values. */
export function median(sorted: readonly number[]): number {
  return sorted[Math.floor(sorted.length / 2)]!;
}
