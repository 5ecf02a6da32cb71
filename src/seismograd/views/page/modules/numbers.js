// Numbers as a reader sees them.

/** @import { JsonNumber } from "./answers.d.ts" */

/**
 * Numbers of a record may be the words "nan", "inf", "-inf": JSON has no such numbers.
 *
 * @param {JsonNumber} value
 * @returns {number | null | undefined}
 */
export const asNumber = (value) =>
  value === "nan" ? NaN : value === "inf" ? Infinity : value === "-inf" ? -Infinity : value;

/** @param {number | string} number */
export const count = (number) => Number(number).toLocaleString("en");

/**
 * @param {JsonNumber} given
 * @param {number} [digits]
 */
export function fmt(given, digits = 4) {
  const value = asNumber(given);
  if (value === null || value === undefined) return "–";
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e5 || size < 1e-3)
    return value
      .toExponential(digits - 1)
      .replace(/\.?0+e/, "e")
      .replace("e+", "e");
  return String(Number(value.toPrecision(digits)));
}

/**
 * @param {number} part
 * @param {number} whole
 */
export function share(part, whole) {
  if (!part || !whole) return "0%";
  if (part === whole) return "100%";
  const percent = (100 * part) / whole;
  return percent < 0.05 ? "<0.1%" : percent >= 99.95 ? ">99.9%" : `${percent.toFixed(1)}%`;
}

/**
 * @param {number} value
 * @param {number} low
 * @param {number} high
 */
export const clamp = (value, low, high) => Math.max(low, Math.min(high, value));

/**
 * Round numbers for an axis of this length.
 *
 * @param {number} start
 * @param {number} stop
 * @param {number} most
 */
export function ticks(start, stop, most) {
  const span = stop - start;
  if (!(span > 0)) return [start];
  const raw = span / Math.max(1, most);
  const power = 10 ** Math.floor(Math.log10(raw));
  const size = Math.max(1, ([1, 2, 5, 10].find((each) => each * power >= raw) ?? 10) * power);
  const found = [];
  for (let at = Math.ceil(start / size) * size; at <= stop; at += size) found.push(at);
  return found;
}
