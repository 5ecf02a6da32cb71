// What do the modules do to the signal? The activations and the signal on its way back in the
// sampled step nearest to the cursor, call by call.

/** @import { SignalField, Signals } from "./answers.d.ts" */
/** @import { CellValue, TableContent } from "./types.d.ts" */

import { shades } from "./colours.js";
import { setCursor, stepOf } from "./cursor.js";
import { el } from "./dom.js";
import { colourKey } from "./line_data.js";
import { clamp } from "./numbers.js";
import { nothing, Panel } from "./panel.js";
import { drawSignalPicture, SIGNAL_MARGINS } from "./signals_drawing.js";
import { currentMeta, currentSource, state } from "./state.js";
import { fillTable } from "./table.js";
import { inLanguage, sentences, T } from "./texts.js";

const signalsCanvas = el("canvas", { role: "img" });

const signalsBox = el("div", { class: "canvas" }, signalsCanvas);

const signalsSaid = el("div", {});

const signalsKey = el("div", {});

const signalsTable = el("div", { class: "scroll", tabindex: "0" });

export const signalsPanel = new Panel("signals", {
  title: "signals",
  sub: () => {
    const found = state.signals;
    if (!found || found.step < 0) return "";
    const wanted = stepOf(state.row);
    return T(wanted === found.step ? "signals_at" : "signals_nearest", {
      step: found.step,
      wanted,
    });
  },
  on: "meta signals cursor column",
  draw: drawSignals,
  table: () => signalTable(state.signals),
});

/**
 * The numbers of one field by call, null where one was not measured.
 *
 * @param {Signals} found
 * @param {SignalField} field
 */
function measuredBy(found, field) {
  const values = found[field];
  const seen = found[`${field}.measured`];
  return found.modules.map((_, at) => (values && seen?.[at] ? values[at] : null));
}

/**
 * @param {Signals | null} found
 * @returns {TableContent}
 */
function signalTable(found) {
  /** @param {number | null} value */
  const percent = (value) => (value === null ? "–" : Number((100 * value).toPrecision(3)));
  const fields = /** @type {SignalField[]} */ (["rms", "zeros", "saturated", "signal_rms"]);
  const columns = found ? fields.map((each) => measuredBy(found, each)) : [];
  const head = [
    T("column_module"),
    T("column_type"),
    T("signals_forward"),
    T("column_zeros"),
    T("column_saturated"),
    T("signals_backward"),
    T("column_factor"),
  ];
  /** @type {CellValue[][]} */
  const rows = (found?.modules ?? []).map(([name, type], at) => {
    const [rms, zeros, saturated, signal] = columns.map((each) => each[at]);
    const factor = found?.factor?.[at] ?? NaN;
    return [
      name,
      type,
      rms ?? "–",
      percent(zeros),
      percent(saturated),
      signal ?? "–",
      Number.isNaN(factor) ? "–" : factor,
    ];
  });
  return { head, rows };
}

/** Which parameter stands for each module: its weight, or the first that it has. */
function columnsOf(/** @type {Signals} */ found) {
  /** @type {Map<string, number>} */
  const known = new Map();
  currentMeta().parameters.forEach(({ name }, column) => {
    const owner = name.split(".").slice(0, -1).join(".");
    if (!known.has(owner) || name === `${owner}.weight`) known.set(owner, column);
  });
  return found.modules.map(([name]) => known.get(name.replace(/ \(\d+\)$/, "")) ?? -1);
}

signalsCanvas.addEventListener("click", (event) => {
  const found = state.signals;
  if (!found?.modules.length) return;
  const box = signalsCanvas.getBoundingClientRect();
  const { left, right } = SIGNAL_MARGINS;
  const along = (event.clientX - box.left - left) / (box.width - left - right);
  const last = found.modules.length - 1;
  const column = columnsOf(found)[clamp(Math.round(along * last), 0, last)];
  if (column >= 0) setCursor(state.row, column);
});

/**
 * @param {HTMLElement} body
 * @param {number} room
 */
function drawSignals(body, room) {
  if (!currentMeta().signals) return body.replaceChildren(); // hidden, and never asked for
  const found = state.signals;
  if (found === null && !currentSource().live) return nothing(body, T("not_in_report"));
  if (!found) return nothing(body, T("loading"));
  if (!found.modules.length) return nothing(body, T("not_in_report"));
  if (signalsBox.parentNode !== body)
    body.replaceChildren(signalsSaid, signalsKey, signalsBox, signalsTable);
  const [first, ...rest] = found.said.map(inLanguage);
  signalsSaid.replaceChildren(
    first ? el("p", {}, el("strong", {}, first)) : "",
    ...rest.map((each) => el("p", {}, each)),
  );
  signalsCanvas.setAttribute(
    "aria-label",
    T("signals_label", { step: found.step, number: found.modules.length }),
  );
  const courses = [
    { values: measuredBy(found, "rms"), colour: shades.after },
    { values: measuredBy(found, "signal_rms"), colour: shades.before },
  ];
  const drawn = courses.flatMap((each) => each.values).filter((value) => value !== null);
  const marks = sentences(
    drawn.includes(0) ? T("signals_zero") : "",
    drawn.every(Number.isFinite) ? "" : T("legend_mark"),
  );
  signalsKey.replaceChildren(
    colourKey([
      [T("signals_forward"), shades.after],
      [T("signals_backward"), shades.before],
    ]),
    marks ? el("p", { class: "dim" }, marks) : "",
  );
  const chosen = columnsOf(found).map((column) => column >= 0 && column === state.column);
  const names = found.modules.map(([name]) => name);
  drawSignalPicture(signalsCanvas, room || 400, names, courses, chosen);
  fillTable(signalsTable, T("signals"), signalTable(found));
}
