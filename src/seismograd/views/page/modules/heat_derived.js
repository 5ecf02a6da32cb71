// Heat maps that come of others: one run divided by another, each parameter divided by its own
// median.

/** @import { Heat } from "./answers.d.ts" */

import { columnsOver, rank, reduceRow } from "./heat_codes.js";
import { clamp } from "./numbers.js";
import { pairs } from "./pairs.js";
import { currentMeta, state } from "./state.js";
import { shaped } from "./unpack.js";

/**
 * One run divided by another, parameter by parameter: thousandths of a decade again.
 *
 * @param {Heat} heat
 * @param {Heat} otherHeat
 * @returns {Heat}
 */
function differenceHeat(heat, otherHeat) {
  const { columns } = pairs();
  const width = heat.starts.length;
  const under = columnsOver(otherHeat, heat);
  const codes = new Int16Array(heat.codes.length).fill(32766);
  const line = new Int32Array(width);
  columns.forEach((there, column) => {
    if (there < 0) return;
    reduceRow(otherHeat, [there], under[0], under[1], line);
    for (let x = 0; x < width; x += 1) {
      const mine = rank(heat.codes[column * width + x]),
        its = line[x];
      const numbers = Math.abs(mine) <= 32000 && Math.abs(its) <= 32000;
      codes[column * width + x] = numbers
        ? clamp(mine - its, -32000, 32000)
        : mine === 32767 || its === 32767
          ? 32767
          : 32766;
    }
  });
  return { ...heat, codes: shaped(codes, heat.codes.shape), which: "high" };
}

/**
 * Each parameter divided by its own median over what is shown: what changes is seen beside what is
 * merely large.
 *
 * @param {Heat} heat
 * @returns {Heat}
 */
function relativeHeat(heat) {
  const [num, width] = heat.codes.shape;
  const codes = Int16Array.from(heat.codes);
  for (let parameter = 0; parameter < num; parameter += 1) {
    const own = codes.subarray(parameter * width, (parameter + 1) * width);
    const numbers = own.filter((code) => code >= -32000 && code <= 32000).sort();
    const middle = numbers[numbers.length >> 1];
    for (let at = 0; at < width; at += 1)
      if (own[at] >= -32000 && own[at] <= 32000) own[at] = clamp(own[at] - middle, -32000, 32000);
  }
  return { ...heat, codes: shaped(codes, heat.codes.shape) };
}

/**
 * By heat map: the other one that it was compared with, and what came of that; or itself relative.
 *
 * @type {WeakMap<Heat, { other: Heat, made: Heat }>}
 */
const derived = new WeakMap();

export const isDifference = () => Boolean(state.difference && state.other);

// What is drawn: the heat map, or that divided by another one, or by the medians of its rows.
export function shownHeat() {
  const { heat, otherHeat } = state;
  if (!heat || heat.codes.shape[0] !== currentMeta().parameters.length) return null;
  if (!isDifference() && state.scale !== "row") return heat;
  const other = isDifference() ? otherHeat : heat;
  if (!other || other.statistic !== heat.statistic) return null;
  const known = derived.get(heat);
  if (known?.other === other) return known.made;
  const made = isDifference() ? differenceHeat(heat, other) : relativeHeat(heat);
  derived.set(heat, { other, made });
  return made;
}
