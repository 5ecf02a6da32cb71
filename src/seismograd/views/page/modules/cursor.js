// The cursor and the stretch of rows: from rows to steps and back, and moving both.

/** @import { Meta } from "./answers.d.ts" */

import { emit } from "./events.js";
import { CONFIG } from "./look.js";
import { clamp } from "./numbers.js";
import { place } from "./place.js";
import { currentMeta, state } from "./state.js";
import { T } from "./texts.js";

/** @param {number} row */
export function stepOf(row) {
  const { steps } = currentMeta();
  if (!steps.rows.length) return steps.first + Math.round(row);
  let low = 0;
  while (low + 1 < steps.rows.length && steps.rows[low + 1][0] <= row) low += 1;
  const [first, step] = steps.rows[low];
  const next = steps.rows[Math.min(low + 1, steps.rows.length - 1)];
  return next[0] === first
    ? step
    : Math.round(step + ((row - first) * (next[1] - step)) / (next[0] - first));
}

/** @param {number} step */
export const rowOf = (step) => rowAt(currentMeta(), step);

/** The rows from which the training went on from a checkpoint. */
export function resumedRows() {
  const { notes } = currentMeta();
  const steps = notes.filter((each) => each.kind === "resumed").map((each) => each.step);
  return [...new Set(steps)].filter((step) => step > 0).map(rowOf);
}

/**
 * The row of a run that is nearest to a step.
 *
 * @param {Meta} meta
 * @param {number} step
 */
export function rowAt({ steps, rows }, step) {
  if (!steps.rows.length) return clamp(step - steps.first, 0, rows - 1);
  let low = 0;
  while (low + 1 < steps.rows.length && steps.rows[low + 1][1] <= step) low += 1;
  const [row, first] = steps.rows[low];
  const [next, last] = steps.rows[Math.min(low + 1, steps.rows.length - 1)];
  return next === row ? row : Math.floor(row + ((step - first) * (next - row)) / (last - first));
}

/**
 * @param {number} row
 * @param {number} [column]
 */
export function setCursor(row, column) {
  if (!state.meta?.rows) return;
  state.row = clamp(Math.round(row), 0, state.meta.rows - 1);
  state.follow = state.row === state.meta.rows - 1;
  const isOther = column !== undefined && column >= 0 && column !== state.column;
  if (isOther) state.column = column;
  if (state.row < state.start || state.row >= state.stop) pan(state.row);
  emit("cursor");
  if (isOther) emit("column");
}

/**
 * @param {number} start
 * @param {number} stop
 */
export function setWindow(start, stop) {
  const { rows } = currentMeta();
  const size = clamp(Math.round(stop - start), Math.min(8, rows), rows);
  state.start = clamp(Math.round(start), 0, rows - size);
  state.stop = state.start + size;
  place.body.dataset.window = `${state.start}-${state.stop}`;
  emit("window");
}

/** @param {number} row */
function pan(row) {
  const size = state.stop - state.start;
  setWindow(row - size / 2, row + size / 2);
}

/**
 * @param {number} factor
 * @param {number} [row]
 */
export function zoom(factor, row = state.row) {
  const size = (state.stop - state.start) * factor;
  const share = (row - state.start) / Math.max(1, state.stop - state.start);
  setWindow(row - size * share, row + size * (1 - share));
}

export const nearestText = () =>
  state.step && state.step.row !== state.row
    ? T(CONFIG.mode === "widget" ? "nearest_kept" : "nearest_step", { wanted: stepOf(state.row) })
    : "";
