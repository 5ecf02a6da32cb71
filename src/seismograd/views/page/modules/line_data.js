// What lines are made of, and the key to their colours.

/** @import { Columns } from "./answers.d.ts" */
/** @import { Cut, KeyEntry } from "./types.d.ts" */

import { el } from "./dom.js";
import { state } from "./state.js";

/**
 * The middles of columns, cut to the window.
 *
 * @param {Columns} answer
 */
const middles = (answer) =>
  Array.from(answer.starts, (start, index) => (start + answer.stops[index] - 1) / 2);

/**
 * @param {Columns} answer
 * @returns {Cut}
 */
export function inWindow(answer) {
  /** @type {number[]} */
  const keep = [];
  for (let index = 0; index < answer.starts.length; index += 1) {
    if (answer.stops[index] > state.start - 1 && answer.starts[index] < state.stop + 1)
      keep.push(index);
  }
  /** @param {ArrayLike<number>} values */
  const take = (values) => keep.map((index) => values[index]);
  const all = middles(answer);
  return {
    rows: keep.map((index) => all[index]),
    take,
    keep,
  };
}

/** @param {(KeyEntry | null)[]} entries */
export function colourKey(entries) {
  return el(
    "div",
    { class: "legend" },
    ...entries
      .filter((each) => each !== null)
      .map(([label, colour, dash, mark]) =>
        el("span", {}, swatch(colour, dash ?? [], mark), label),
      ),
  );
}

/**
 * @param {string} colour
 * @param {number[]} dash
 * @param {boolean | undefined} mark
 */
function swatch(colour, dash, mark) {
  const made = el(
    "span",
    { class: mark ? "mark" : "swatch", "aria-hidden": "true" },
    mark ? "▼" : "",
  );
  made.style.color = colour;
  if (dash.length) made.style.borderTopStyle = dash[0] < 4 ? "dotted" : "dashed";
  return made;
}

/**
 * Whether one line would hide the other: nothing is told by drawing both.
 *
 * @param {number[]} one
 * @param {number[]} other
 */
export const areEqual = (one, other) =>
  one.every(
    (value, index) =>
      Object.is(value, other[index]) ||
      Math.abs(value - other[index]) <= 1e-5 * Math.abs(value) ||
      Number.isNaN(other[index]),
  );

/**
 * The mean over the points around each, a twentieth of all; empty where there are too few to need
 * it. What is not finite stays a gap.
 *
 * @param {number[]} values
 */
export function smoothed(values) {
  const reach = Math.floor(values.length / 40);
  if (reach < 2) return [];
  return values.map((value, index) => {
    if (!Number.isFinite(value)) return NaN;
    const around = values
      .slice(Math.max(0, index - reach), index + reach + 1)
      .filter(Number.isFinite);
    return around.reduce((sum, each) => sum + each, 0) / around.length;
  });
}
