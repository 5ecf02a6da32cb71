// The places and the numbers of an axis of a plot.

import { fmt } from "./numbers.js";

/**
 * Which places of an axis get a line: of a logarithmic one over more than a decade the powers of
 * ten.
 *
 * @param {boolean | undefined} log
 * @returns {(plot: uPlot, splits: number[]) => (number | null)[]}
 */
export const marked = (log) => (_, splits) => {
  const powers = splits.filter(
    (value) => value > 0 && Number.isInteger(Math.round(1e9 * Math.log10(value)) / 1e9),
  );
  return log && powers.length > 1
    ? splits.map((value) => (powers.includes(value) ? value : null))
    : splits;
};

/**
 * The numbers of an axis, with as many digits as tell them apart.
 *
 * @param {(number | null | undefined)[]} values
 */
export function distinct(values) {
  const known = values.filter((value) => value !== null && value !== undefined);
  const digits =
    [2, 3, 4, 5, 6].find(
      (each) => new Set(known.map((value) => fmt(value, each))).size === known.length,
    ) ?? 2;
  return values.map((value) => (value === null || value === undefined ? "" : fmt(value, digits)));
}
