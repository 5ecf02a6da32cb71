// One parameter: what it is, its numbers at the cursor, its course; and single scalars of it that
// were recorded.

/** @import { Line } from "./answers.d.ts" */
/** @import { Cut, PlotLine } from "./types.d.ts" */

import { shades } from "./colours.js";
import { stepOf } from "./cursor.js";
import { el } from "./dom.js";
import { on } from "./events.js";
import { areEqual, colourKey, inWindow } from "./line_data.js";
import { Lines } from "./lines.js";
import { nothing, Panel } from "./panel.js";
import { parameterFacts } from "./parameter_facts.js";
import { ask, widthOf } from "./questions.js";
import { chosenName, currentMeta, currentSource, otherName, state } from "./state.js";
import { T } from "./texts.js";
import { later } from "./timing.js";

const parameterLines = new Lines(() => T("parameter_label", { parameter: chosenName() }));

const elementLines = new Lines(() => T("element_label"));

const facts = el("dl", { class: "facts" });

const parameterKey = el("div");

const parameterPlot = el("div");
const elementPlot = el("div");
const parameterPlots = el("div", { class: "split" }, parameterPlot, elementPlot);

export const parameterPanel = new Panel("parameter", {
  title: "parameter",
  sub: () => chosenName(),
  on: "meta window column step line otherLine elementLine",
  draw: drawParameter,
  table: () => {
    const { line } = state;
    if (!line?.starts) return { head: [T("column_step")], rows: [] };
    const names = ["grad_norm", "applied_norm", "update_ratio"].filter(
      (name) => line[`${name}.high`],
    );
    const width = line.starts.length;
    /** @param {number | undefined} value */
    const dashed = (value) => (Number.isNaN(value) ? "–" : value);
    return {
      head: [
        T("column_first_step"),
        T("column_last_step"),
        ...names.flatMap((name) => [
          `${T(`statistic_${name}`)} (${T("which_low")})`,
          `${T(`statistic_${name}`)} (${T("which_high")})`,
        ]),
        ...[0, 1, 2, 3, 4].map((each) => T(`state_${each}`)),
      ],
      rows: Array.from(line.starts, (start, index) => [
        stepOf(start),
        stepOf(line.stops[index] - 1),
        ...names.flatMap((name) => [
          dashed(line[`${name}.low`]?.[index]),
          dashed(line[`${name}.high`]?.[index]),
        ]),
        ...[0, 1, 2, 3, 4].map((each) => line.counts[each * width + index] || ""),
      ]),
    };
  },
});

on("cursor", () => {
  parameterLines.move();
  elementLines.move();
});

on("window cursor meta", later(askElement, 60));

/** @param {number} column */
function elementOf(column) {
  const name = currentMeta().parameters[column]?.name;
  return name === undefined
    ? -1
    : currentMeta().elements.findIndex((each) => each.startsWith(`${name}[`));
}

function askElement() {
  const index = state.meta ? elementOf(state.column) : -1;
  if (index < 0 || !currentMeta().rows) {
    state.elementLine = null;
    return;
  }
  ask("elementLine", () => currentSource().element(index, state.start, state.stop, widthOf()));
}

/** @param {HTMLElement} body */
function drawParameter(body) {
  if (!currentMeta().rows || state.column < 0) return nothing(body, T("no_steps"));
  if (facts.parentNode !== body) body.replaceChildren(facts, parameterPlots, parameterKey);
  facts.replaceChildren(
    ...parameterFacts().flatMap(([name, value, style]) => [
      el("dt", {}, name),
      el("dd", { class: style }, value),
    ]),
  );
  const { line } = state;
  if (!line?.starts) {
    if (line === null && !currentSource().live)
      parameterKey.replaceChildren(el("p", { class: "dim" }, T("not_in_report")));
    return;
  }
  const cut = inWindow(line);
  /** @type {PlotLine[]} */
  const lines = [
    {
      label: T("statistic_grad_norm"),
      values: cut.take(line["grad_norm.high"] ?? []),
      colour: shades.before,
    },
    {
      label: T("statistic_grad_norm"),
      values: cut.take(line["grad_norm.low"] ?? []),
      colour: shades.before,
      width: 0.5,
    },
  ];
  const applied = cut.take(line["applied_norm.high"] ?? []);
  const isApplied =
    applied.length > 0 && !areEqual(cut.take(line["grad_norm.high"] ?? []), applied);
  if (isApplied)
    lines.push({
      label: T("statistic_applied_norm"),
      values: applied,
      colour: shades.after,
      dash: [6, 4],
    });
  const ratios = bridged(cut.take(line["update_ratio.high"] ?? []));
  const isUpdated = ratios.some((value) => value > 0);
  if (isUpdated)
    lines.push({
      label: T("statistic_update_ratio"),
      values: ratios,
      colour: shades.lr,
      dash: [3, 3],
    });
  if (state.other && state.otherLine?.starts)
    lines.push({
      label: otherName(),
      values: besides(state.otherLine, "grad_norm.high", cut),
      colour: shades.other,
      dash: [8, 2],
    });
  const width = line.starts.length;
  const bad = cut.rows.filter((_, index) => line.counts[4 * width + cut.keep[index]] > 0);
  parameterLines.draw(parameterPlot, 190, cut.rows, lines, {
    log: { y: true },
    pairs: [[0, 1]],
    marks: bad,
  });
  const index = elementOf(state.column);
  const series = index < 0 ? null : state.elementLine;
  elementPlot.hidden = !series;
  if (series) {
    const element = inWindow(series);
    const [high, low] = [element.take(series.high), element.take(series.low)];
    const nonfinite = element.take(series.nonfinite);
    elementLines.draw(
      elementPlot,
      120,
      element.rows,
      [
        { label: currentMeta().elements[index], values: high, colour: shades.accent },
        { label: currentMeta().elements[index], values: low, colour: shades.accent, width: 0.5 },
      ],
      { pairs: [[0, 1]], marks: element.rows.filter((_, at) => nonfinite[at]) },
    );
  }
  parameterKey.replaceChildren(
    colourKey([
      [T("statistic_grad_norm"), shades.before],
      isApplied ? [T("statistic_applied_norm"), shades.after, [6, 4]] : null,
      isUpdated ? [T("statistic_update_ratio"), shades.lr, [3, 3]] : null,
      elementPlot.hidden ? null : [currentMeta().elements[index], shades.accent],
      state.other ? [otherName(), shades.other, [8, 2]] : null,
      bad.length ? [T("state_4"), shades.nan, [], true] : null,
    ]),
  );
}

/**
 * The update is known at some steps only: the line goes from one to the next, but not far.
 *
 * @param {number[]} values
 */
function bridged(values) {
  const most = 40;
  let last = -1;
  return values.map((value, index) => {
    if (!Number.isNaN(value)) {
      last = index;
      return value;
    }
    return last >= 0 && index - last < most ? values[last] : value;
  });
}

/**
 * @param {Line} line
 * @param {keyof Line & `${string}.high`} name
 * @param {Cut} cut
 */
function besides(line, name, cut) {
  let at = 0;
  return cut.rows.map((row) => {
    while (at + 1 < line.starts.length && line.stops[at] <= row) at += 1;
    return line.starts[at] <= row + 1 && row < line.stops[at] ? (line[name]?.[at] ?? NaN) : NaN;
  });
}
