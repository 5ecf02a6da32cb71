// Where and when? Every parameter at every step. A pixel shows the worst of all the rows and
// columns under it, so nothing is thinned away.

import { shades } from "./colours.js";
import { setWindow, zoom } from "./cursor.js";
import { chosenValue, el } from "./dom.js";
import { emit, on } from "./events.js";
import { isDifference, shownHeat } from "./heat_derived.js";
import { depthEnds, drawHeatCursor, moveHeatCursor, rowLabels } from "./heat_labels.js";
import { heatLegend } from "./heat_legend.js";
import { forgetHeat, paintHeat } from "./heat_picture.js";
import { heatStage, layoutRows } from "./heat_stage.js";
import { clamp, count } from "./numbers.js";
import { pairs } from "./pairs.js";
import { nothing, Panel } from "./panel.js";
import { askWindow } from "./questions.js";
import { scale } from "./spread.js";
import { currentMeta, currentSource, state } from "./state.js";
import { sentences, T } from "./texts.js";
import { painted } from "./timing.js";

export const heatPanel = new Panel("heat", {
  title: "heat",
  sub: () => heatSub(),
  on: "meta window heat otherHeat rows scale",
  draw: drawHeat,
  table: heatTable,
  own: () => [
    choice(
      "statistic",
      currentMeta()
        .statistics.filter((name) => currentSource().has(`heat/${name}`))
        .map((name) => [name, T(`statistic_${name}`)]),
    ),
    choice(
      "which",
      ["high", "low", "last"]
        .filter((which) => currentSource().has(`heat/grad_norm/${which}`))
        .map((which) => [which, T(`which_${which}`)]),
    ),
    choice(
      "scale",
      state.other && state.difference
        ? []
        : ["all", "row"].map((scale) => [scale, T(`scale_${scale}`)]),
      () => emit("scale"),
    ),
    state.other
      ? el(
          "button",
          {
            type: "button",
            "data-name": "difference",
            "aria-pressed": String(state.difference),
            onclick: () => {
              state.difference = !state.difference;
              emit("rows");
            },
          },
          T("difference"),
        )
      : null,
    el(
      "button",
      {
        type: "button",
        "data-name": "out",
        title: T("zoom_out"),
        "aria-label": T("zoom_out"),
        onclick: () => zoom(4),
      },
      "−",
    ),
    el(
      "button",
      {
        type: "button",
        "data-name": "in",
        title: T("zoom_in"),
        "aria-label": T("zoom_in"),
        onclick: () => zoom(0.25),
      },
      "+",
    ),
    el(
      "button",
      { type: "button", "data-name": "all", onclick: () => setWindow(0, currentMeta().rows) },
      T("whole_run"),
    ),
  ],
});

on("cursor", () => {
  if (!heatPanel.asTable) moveHeatCursor();
});

on("step", () => {
  if (heatPanel.asTable) heatPanel.refresh();
});

/**
 * @param {"statistic" | "which" | "scale"} name
 * @param {[string, string][]} options
 * @param {() => void} [then]
 */
function choice(name, options, then = askWindow) {
  if (options.length < 2) return null;
  return el(
    "select",
    {
      "data-name": name,
      "aria-label": T(`choose_${name}`),
      onchange: (event) => {
        state[name] = chosenValue(event);
        then();
      },
    },
    ...options.map(([value, label]) =>
      el("option", { value, selected: state[name] === value }, label),
    ),
  );
}

function heatSub() {
  const listed = state.rows.reduce((sum, row) => sum + row.columns.length, 0);
  const heat = state.heat;
  const widest = heat
    ? heat.starts.reduce((most, start, index) => Math.max(most, heat.stops[index] - start), 1)
    : 1;
  return sentences(
    isDifference()
      ? T("heat_difference")
      : T(state.scale === "row" ? "heat_relative" : "heat_what", {
          statistic: T(`statistic_${state.statistic}`),
        }),
    isDifference() && pairs().byOrder ? T("by_order", { number: pairs().num }) : "",
    T("of_parameters", { listed, all: currentMeta().parameters.length }),
    widest > 1 ? T(`column_shows_${state.which}`, { number: count(widest) }) : "",
  );
}

/** Whether this is a report that lacks the heat map: not every statistic with every extreme. */
const isLacking = () => !state.heat && !currentSource().live;

/**
 * @param {HTMLElement} body
 * @param {number} room
 */
function drawHeat(body, room) {
  if (!currentMeta().rows || !state.rows.length)
    return nothing(body, T(currentMeta().rows ? "no_match" : "no_steps"));
  if (isDifference() && !pairs().num) return nothing(body, T("no_pairs"));
  const narrow = room < 500;
  heatStage.left = narrow ? 96 : 170;
  heatStage.right = 64;
  heatStage.top = 14;
  const rows = state.rows.length;
  const plot = Math.round(Math.min(560, rows * clamp(320 / rows, 14, 120)));
  const pen = heatStage.begin(body, room, plot + heatStage.top + heatStage.bottom);
  const geometry = layoutRows(plot);
  const heat = shownHeat();
  if (heat) paintHeat(pen, heat, geometry);
  else {
    forgetHeat();
    pen.fillStyle = shades.dim;
    pen.fillText(T(isLacking() ? "not_in_report" : "loading"), heatStage.left + 10, 40);
  }
  rowLabels(pen, geometry);
  depthEnds(pen, geometry);
  heatStage.axis(pen);
  drawHeatCursor(geometry);
  heatLegend(body, heat, isDifference() || state.scale === "row");
  if (heat) painted("heat");
}

function heatTable() {
  const heat = state.heat;
  const head = [
    "parameter",
    "shape",
    "state",
    "norm",
    "lowest_shown",
    "highest_shown",
    "nonfinite_columns",
    "zero_columns",
    "absent_columns",
  ].map((key) => T(`column_${key}`));
  const rows = state.rows
    .flatMap((row) => row.columns)
    .map((column) => {
      const each = currentMeta().parameters[column];
      let low = Infinity,
        high = -Infinity,
        bad = 0,
        zero = 0,
        absent = 0;
      if (heat) {
        const width = heat.codes.shape[1];
        for (let at = 0; at < width; at += 1) {
          if (heat.stops[at] <= state.start || heat.starts[at] >= state.stop) continue;
          const code = heat.codes[column * width + at];
          if (code === 32767) bad += 1;
          else if (code === -32767) zero += 1;
          else if (code === -32768) absent += 1;
          else if (code !== 32766) {
            low = Math.min(low, code);
            high = Math.max(high, code);
          }
        }
      }
      const step = state.step;
      return [
        each.name,
        `[${each.shape.join(", ")}]`,
        step ? T(`state_${step.states[column]}`) : "",
        step && step.states[column] > 1 ? step.grad_norm[column] : "–",
        low === Infinity ? "–" : 10 ** (low / 1000),
        high === -Infinity ? "–" : 10 ** (high / 1000),
        bad,
        zero,
        absent,
      ];
    });
  return { head, rows };
}
