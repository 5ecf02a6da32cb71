// What is looked at: one cursor (row and parameter) and one stretch of rows for all panels, and
// which parameters are listed.

/** @import { State } from "./types.d.ts" */

/** @type {State} */
export const state = {
  source: null,
  meta: null,
  other: null,
  otherMeta: null,
  row: 0,
  column: -1,
  start: 0,
  stop: 0,
  follow: true,
  filter: "",
  sort: "depth",
  group: 0,
  kind: "auto",
  statistic: "grad_norm",
  which: "high",
  scale: "all",
  difference: false,
  heat: null,
  otherHeat: null,
  scalars: null,
  otherScalars: null,
  step: null,
  otherStep: null,
  line: null,
  otherLine: null,
  histogram: null,
  lanes: null,
  signals: null,
  picture: null,
  seismogram: null,
  elementLine: null,
  rows: [],
  runs: [],
};

/** What is known of the run that is shown. Panels are drawn only once there is one. */
export function currentMeta() {
  if (!state.meta) throw new Error("no run is shown");
  return state.meta;
}

/** Where the answers for the run that is shown come from. */
export function currentSource() {
  if (!state.source) throw new Error("no run is shown");
  return state.source;
}

/** The name of the run that this one is compared with. */
export const otherName = () => state.otherMeta?.run.name ?? "";

/** The weight whose units are shown as pictures: the chosen one, or else the first there is. */
export function picturedColumn() {
  const { pictures } = currentMeta();
  return pictures.includes(state.column) ? state.column : (pictures[0] ?? -1);
}

/** The name of the parameter that the cursor is on. */
export const chosenName = () =>
  state.column >= 0 ? (currentMeta().parameters[state.column]?.name ?? "") : "";
