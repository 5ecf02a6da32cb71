// The stage of the heat map: which row of the list is where, and what is said of it there.

/** @import { Heat } from "./answers.d.ts" */
/** @import { Geometry } from "./types.d.ts" */

import { setCursor, stepOf } from "./cursor.js";
import { relist } from "./filters.js";
import { LOWEST, reduceRow } from "./heat_codes.js";
import { clamp, fmt } from "./numbers.js";
import { Stage } from "./stage.js";
import { state } from "./state.js";
import { T } from "./texts.js";

export const heatStage = new Stage(
  () =>
    T("heat_label", {
      parameters: state.rows.length,
      first: stepOf(state.start),
      last: stepOf(Math.max(state.start, state.stop - 1)),
    }),
  {
    column: (y) => listedAt(y)?.columns[0],
    aside: (y) => pressLabel(y),
    hint: heatHint,
  },
);

/**
 * The last drawing: which listed rows lie where, and what it shows of them.
 *
 * @type {{ geometry: Geometry | null, heat: Heat | null, isRelative: boolean }}
 */
export const drawnHeat = { geometry: null, heat: null, isRelative: false };

/**
 * @param {number} height
 * @returns {Geometry}
 */
export function layoutRows(height) {
  const num = state.rows.length;
  const bins = Math.max(1, Math.min(num, Math.floor(height * (window.devicePixelRatio || 1))));
  drawnHeat.geometry = {
    num,
    bins,
    height,
    high: height / bins,
    /** @param {number} bin */
    of: (bin) => [Math.floor((bin * num) / bins), Math.floor(((bin + 1) * num) / bins)],
  };
  return drawnHeat.geometry;
}

/** @param {number} y */
function listedAt(y) {
  const { geometry } = drawnHeat;
  if (!geometry) return undefined;
  const index = Math.floor(((y - heatStage.top) / geometry.height) * geometry.num);
  return state.rows[clamp(index, 0, state.rows.length - 1)];
}

/** @param {number} y */
function pressLabel(y) {
  const row = listedAt(y);
  if (!row) return;
  if (row.group) {
    state.filter = `${row.label}.*`;
    state.group = 0;
    relist();
  } else setCursor(state.row, row.columns[0]);
}

/**
 * @param {number} code
 * @param {boolean} isRelative
 */
function codeText(code, isRelative) {
  if (code === 32767) return T("state_4");
  if (code === -32767) return T("state_2");
  if (code === -32768) return T("state_1");
  if (code === LOWEST || code === 32766) return T("state_0");
  return `${isRelative ? "×" : ""}${fmt(10 ** (code / 1000), 3)}`;
}

/**
 * @param {number} row
 * @param {number} y
 */
function heatHint(row, y) {
  const listed = listedAt(y);
  const { heat, isRelative } = drawnHeat;
  if (!listed || !heat) return null;
  const column = heat.starts.findIndex((start, index) => row >= start && row < heat.stops[index]);
  if (column < 0) return null;
  const line = new Int32Array(1);
  reduceRow(heat, listed.columns, Int32Array.of(column), Int32Array.of(column), line);
  const first = stepOf(heat.starts[column]),
    last = stepOf(heat.stops[column] - 1);
  const steps = first === last ? T("step", { step: first }) : T("steps", { first, last });
  return [listed.label, steps, codeText(line[0], isRelative)].join("\n");
}
