// The cells of a heat map and what of them lies under a pixel. A code is an int16: thousandths of a
// decade, or a state.

/** @import { Heat } from "./answers.d.ts" */
/** @import { ListedRow } from "./types.d.ts" */

import { state } from "./state.js";

export const LOWEST = -32769; // "not measured" while codes are compared: below all others

/** @param {number} code */
export const rank = (code) => (code === 32766 ? LOWEST : code);

/**
 * The smaller of two numbers; what is not a number is worse than either.
 *
 * @param {number} one
 * @param {number} two
 */
function worse(one, two) {
  const special = Math.abs(one) > 32000 || Math.abs(two) > 32000;
  return special ? Math.max(one, two) : Math.min(one, two);
}

/**
 * @param {Heat} heat
 * @param {number} pixels
 */
function columnsUnder(heat, pixels) {
  const size = state.stop - state.start;
  const first = new Int32Array(pixels),
    last = new Int32Array(pixels);
  let column = 0;
  const num = heat.starts.length;
  for (let x = 0; x < pixels; x += 1) {
    const low = state.start + (x * size) / pixels,
      high = state.start + ((x + 1) * size) / pixels;
    while (column < num && heat.stops[column] <= low) column += 1;
    let end = column;
    while (end + 1 < num && heat.starts[end + 1] < high) end += 1;
    const there = column < num && heat.starts[column] < high;
    first[x] = there ? column : 0;
    last[x] = there ? end : -1;
  }
  return [first, last];
}

/**
 * Which columns of one heat map lie over those of another.
 *
 * @param {Heat} heat
 * @param {Heat} base
 */
export function columnsOver(heat, base) {
  const first = new Int32Array(base.starts.length),
    last = new Int32Array(base.starts.length).fill(-1);
  let column = 0;
  for (let x = 0; x < base.starts.length; x += 1) {
    while (column < heat.starts.length && heat.stops[column] <= base.starts[x]) column += 1;
    let end = column;
    while (end + 1 < heat.starts.length && heat.starts[end + 1] < base.stops[x]) end += 1;
    if (column < heat.starts.length && heat.starts[column] < base.stops[x]) {
      first[x] = column;
      last[x] = end;
    }
  }
  return [first, last];
}

/**
 * The worst of some parameters in each column first, then of the columns under each pixel.
 *
 * @param {Heat} heat
 * @param {number[]} columns
 * @param {Int32Array} first
 * @param {Int32Array} last
 * @param {Int32Array} line
 */
export function reduceRow(heat, columns, first, last, line) {
  const { codes } = heat;
  const width = codes.shape[1],
    pixels = line.length,
    lowest = heat.which === "low";
  const merged = new Int32Array(width).fill(LOWEST);
  for (const parameter of columns) {
    const base = parameter * width;
    for (let column = 0; column < width; column += 1) {
      const code = codes[base + column];
      if (code === 32766) continue;
      if (lowest) merged[column] = merged[column] === LOWEST ? code : worse(merged[column], code);
      else if (code > merged[column]) merged[column] = code;
    }
  }
  for (let x = 0; x < pixels; x += 1) {
    let found = LOWEST;
    for (let column = first[x]; column <= last[x]; column += 1) {
      const code = merged[column];
      if (code !== LOWEST)
        found = found === LOWEST ? code : lowest ? worse(found, code) : Math.max(found, code);
    }
    line[x] = found;
  }
}

/**
 * The codes under every pixel of a picture: `bins` lines of `wide` pixels.
 *
 * @param {Heat} heat
 * @param {number} wide
 * @param {number} bins
 * @param {(bin: number) => ListedRow[]} rowsOf
 */
export function reduceHeat(heat, wide, bins, rowsOf) {
  const [first, last] = columnsUnder(heat, wide);
  const codes = new Int32Array(bins * wide);
  for (let bin = 0; bin < bins; bin += 1) {
    reduceRow(
      heat,
      rowsOf(bin).flatMap((row) => row.columns),
      first,
      last,
      codes.subarray(bin * wide, (bin + 1) * wide),
    );
  }
  return codes;
}

/**
 * The scale: from the smallest of all but half a per cent to the largest, which may stand out by
 * three decades before it is cut.
 *
 * @param {Heat} heat
 * @param {boolean} isRelative
 * @returns {[number, number]}
 */
export function scaleOf(heat, isRelative) {
  const counts = new Uint32Array(64001);
  let total = 0,
    largest = -Infinity;
  const { codes } = heat;
  for (let place = 0; place < codes.length; place += 1) {
    const code = codes[place];
    if (code > 32000 || code < -32000) continue;
    counts[code + 32000] += 1;
    total += 1;
    if (code > largest) largest = code;
  }
  if (!total) return isRelative ? [-300, 300] : [-3000, 0];
  /** @param {number} share */
  const at = (share) => {
    let code = 0;
    for (let seen = counts[0]; seen <= share * total && code < 64000; seen += counts[code])
      code += 1;
    return code - 32000;
  };
  let low = at(0.005),
    high = Math.min(largest, at(0.995) + 3000);
  if (isRelative) {
    const far = Math.max(300, Math.min(3000, Math.max(-low, high)));
    return [-far, far];
  }
  if (high - low < 1000) {
    const middle = (low + high) / 2;
    low = middle - 500;
    high = middle + 500;
  }
  return [low, high];
}
