// The bins of a histogram of scalars: each stands for some binary exponents.

/** @import { Histogram } from "./answers.d.ts" */

import { currentMeta } from "./state.js";

/** @param {number} bin */
export const exponentOf = (bin) =>
  currentMeta().histogram.first + bin * currentMeta().histogram.per_bin;

/** @param {number} exponent */
export const binOf = (exponent) =>
  (exponent - currentMeta().histogram.first) / currentMeta().histogram.per_bin;

/**
 * @param {Histogram} found
 * @param {number} index
 * @param {number} bin
 */
export const countAt = (found, index, bin) =>
  found.bins[index * currentMeta().histogram.bins + bin];

/** @param {Histogram} found */
export function filledBins(found) {
  let low = Infinity,
    high = -1;
  found.bins.forEach((value, at) => {
    if (!(value > 0)) return;
    const bin = at % currentMeta().histogram.bins;
    low = Math.min(low, bin);
    high = Math.max(high, bin);
  });
  return high < 0 ? [0, -1] : [low, high];
}
