// Taking in what is new of a run that goes on: what was looked at stays, and its end is followed
// where that was in sight.

/** @import { Meta } from "./answers.d.ts" */

import { emit, on } from "./events.js";
import { listRows } from "./parameter_list.js";
import { place } from "./place.js";
import { state } from "./state.js";

on("heat step", () => {
  if (state.sort === "trouble" || state.sort === "norm") {
    const before = state.rows.map((row) => row.label).join();
    listRows();
    if (state.rows.map((row) => row.label).join() !== before) emit("rows");
  }
});

/**
 * Return whether these are the first steps of it.
 *
 * @param {Meta} meta
 */
export function takeIn(meta) {
  const before = state.meta;
  const isFirst = !before?.rows;
  state.meta = meta;
  if (isFirst) {
    state.start = 0;
    state.stop = meta.rows;
    state.row = Math.max(0, meta.rows - 1);
  } else if (state.stop >= before.rows) {
    const grown = meta.rows - before.rows;
    if (state.start > 0) state.start += grown;
    state.stop = meta.rows;
  }
  // one that goes on from a checkpoint may have fewer than before
  if (state.follow || state.row >= meta.rows) state.row = Math.max(0, meta.rows - 1);
  return isFirst;
}

/** List the parameters there are now; the chosen one stays chosen though it is not listed. */
export function listGrownRows() {
  const { column } = state;
  listRows();
  if (column >= 0 && column < (state.meta?.parameters.length ?? 0)) state.column = column;
  place.body.dataset.window = `${state.start}-${state.stop}`;
}
