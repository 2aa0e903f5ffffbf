/**
 * Whether a series of measurements grows: the slope of a straight line through its second half, against how much the
 * values scatter around that line.
 *
 * @module
 */

/** What a series does in its second half. */
export interface Growth {
  /** How much the line rises from its begin to its end. */
  readonly rise: number;
  /** Standard deviation of the values around the line. */
  readonly scatter: number;
}

/** Fits a line to the second half; the first one is for caches to fill. Needs six values at least. */
export function growthOf(values: readonly number[]): Growth {
  if (values.length < 6) throw new Error("six values at least");
  const half = values.slice(values.length >> 1);
  const mean = (list: readonly number[]) => list.reduce((sum, one) => sum + one, 0) / list.length;
  const middle = (half.length - 1) / 2;
  const average = mean(half);
  const spread = half.reduce((sum, _, at) => sum + (at - middle) ** 2, 0);
  const slope = half.reduce((sum, value, at) => sum + (at - middle) * (value - average), 0) /
    spread;
  const off = half.map((value, at) => (value - average - slope * (at - middle)) ** 2);
  return { rise: slope * (half.length - 1), scatter: Math.sqrt(mean(off)) };
}

/** Whether the rise is more than the scatter explains, and more than `least`, below which nobody cares. */
export function grows(values: readonly number[], least: number): boolean {
  const { rise, scatter } = growthOf(values);
  return rise > least && rise > 2 * scatter;
}
