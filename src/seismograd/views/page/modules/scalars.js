// The norm of all gradients before and after clipping, with the limit; loss and learning rate
// below, over the same steps.

/** @import { Scalars } from "./answers.d.ts" */
/** @import { Cut, PlotLine } from "./types.d.ts" */

import { fade, shades } from "./colours.js";
import { resumedRows, stepOf } from "./cursor.js";
import { el } from "./dom.js";
import { on } from "./events.js";
import { areEqual, colourKey, inWindow, smoothed } from "./line_data.js";
import { Lines } from "./lines.js";
import { count, fmt } from "./numbers.js";
import { nothing, Panel } from "./panel.js";
import { currentMeta, otherName, state } from "./state.js";
import { sentences, T } from "./texts.js";

const normLines = new Lines(() => T("norms_label"));

const lossLines = new Lines(() => T("losses_label"));

const normPlot = el("div");
const lossPlot = el("div");
const plots = el("div", { class: "split" }, normPlot, lossPlot);
const scalarsKey = el("div");

export const scalarsPanel = new Panel("scalars", {
  title: "scalars",
  sub: () => {
    const { scalars } = state;
    if (!scalars?.starts.length) return "";
    const covered = scalars.stops[0] - scalars.starts[0];
    const rate = constantRate(scalars);
    return sentences(
      covered > 1 ? T("band_shows", { number: count(covered) }) : "",
      rate === null ? "" : `${T("scalar_lr")} ${fmt(rate)}`,
    );
  },
  on: "meta window scalars otherScalars",
  draw: drawScalars,
  table: () => {
    const { scalars } = state;
    const names = ["loss", "lr", "grad_norm", "applied_norm", "clip_limit"];
    return {
      head: [
        T("column_first_step"),
        T("column_last_step"),
        ...names.flatMap((name) => [
          `${T(`scalar_${name}`)} (${T("which_low")})`,
          `${T(`scalar_${name}`)} (${T("which_high")})`,
        ]),
        T("column_nonfinite_norm"),
        T("column_nonfinite_loss"),
      ],
      rows: scalars
        ? Array.from(scalars.starts, (start, index) => [
            stepOf(start),
            stepOf(scalars.stops[index] - 1),
            ...names.flatMap((name) =>
              [scalarOf(scalars, "low", name)[index], scalarOf(scalars, "high", name)[index]].map(
                (value) => (Number.isNaN(value) ? "–" : value),
              ),
            ),
            scalarOf(scalars, "nonfinite", "grad_norm")[index] || "",
            scalarOf(scalars, "nonfinite", "loss")[index] || "",
          ])
        : [],
    };
  },
});

on("cursor", () => {
  normLines.move();
  lossLines.move();
});

/**
 * @param {Scalars} scalars
 * @param {"low" | "high" | "last" | "nonfinite"} which
 * @param {string} name
 */
function scalarOf(scalars, which, name) {
  const place = scalars.scalars.indexOf(name),
    width = scalars.starts.length;
  return scalars[which].subarray(place * width, (place + 1) * width);
}

/**
 * The learning rate, where it is one and the same at all steps of the window: no line then.
 *
 * @param {Scalars} scalars
 */
function constantRate(scalars) {
  const { take } = inWindow(scalars);
  const known = ["low", "high"]
    .flatMap((which) => take(scalarOf(scalars, which === "low" ? "low" : "high", "lr")))
    .filter((value) => !Number.isNaN(value));
  return known.length && known.every((value) => value === known[0]) ? known[0] : null;
}

/** @param {HTMLElement} body */
function drawScalars(body) {
  if (!currentMeta().rows) return nothing(body, T("no_steps"));
  const { scalars } = state;
  if (!scalars) return nothing(body, T("loading"));
  if (plots.parentNode !== body) body.replaceChildren(plots, scalarsKey);
  const cut = inWindow(scalars);
  /**
   * @param {"low" | "high" | "last" | "nonfinite"} which
   * @param {string} name
   */
  const of = (which, name) => cut.take(scalarOf(scalars, which, name));
  /** @param {string} name */
  const bad = (name) => {
    const counts = of("nonfinite", name);
    return cut.rows.filter((_, index) => counts[index] > 0);
  };
  /** @type {PlotLine[]} */
  const norms = [
    { label: T("before_clip"), values: of("high", "grad_norm"), colour: shades.before },
    { label: T("before_clip"), values: of("low", "grad_norm"), colour: shades.before, width: 0.5 },
  ];
  const applied = of("high", "applied_norm");
  const isClipped = !areEqual(of("high", "grad_norm"), applied);
  if (isClipped)
    norms.push({ label: T("after_clip"), values: applied, colour: shades.after, dash: [6, 4] });
  const limits = of("high", "clip_limit");
  const isLimited = limits.some((value) => value > 0);
  if (isLimited)
    norms.push({
      label: T("clip_limit"),
      values: limits,
      colour: shades.limit,
      dash: [2, 3],
      width: 1.2,
    });
  const smooth = smoothed(of("last", "loss"));
  const raw = smooth.length ? { colour: fade(shades.loss, 0.5), width: 0.8 } : {};
  /** @type {PlotLine[]} */
  const losses = [
    { label: T("scalar_loss"), values: of("high", "loss"), colour: shades.loss, ...raw },
    { label: T("scalar_loss"), values: of("low", "loss"), colour: shades.loss, width: 0.5, ...raw },
  ];
  if (smooth.length)
    losses.push({ label: T("smoothed"), values: smooth, colour: shades.loss, width: 2.2 });
  const hasRate = constantRate(scalars) === null && of("last", "lr").some((rate) => rate > 0);
  if (hasRate)
    losses.push({
      label: T("scalar_lr"),
      values: of("last", "lr"),
      colour: shades.lr,
      dash: [5, 3],
      scale: "lr",
    });
  if (state.other && state.otherScalars) {
    norms.push({
      label: otherName(),
      values: alongside(state.otherScalars, "high", "grad_norm", cut),
      colour: shades.other,
      dash: [8, 2],
    });
    losses.push({
      label: otherName(),
      values: alongside(state.otherScalars, "high", "loss", cut),
      colour: shades.other,
      dash: [8, 2],
    });
  }
  const loss = of("high", "loss");
  const positive = loss.filter((value) => value > 0);
  const isWide =
    positive.length > 0 &&
    Math.max(...positive) / Math.min(...positive) > 300 &&
    loss.every((value) => !(value <= 0));
  normLines.draw(normPlot, 200, cut.rows, norms, {
    log: { y: true },
    pairs: [[0, 1]],
    marks: bad("grad_norm"),
  });
  lossLines.draw(lossPlot, 150, cut.rows, losses, {
    log: { y: isWide },
    pairs: [[0, 1]],
    marks: bad("loss"),
    axes: hasRate ? ["y", "lr"] : ["y"],
  });
  scalarsKey.replaceChildren(
    colourKey([
      [T("before_clip"), shades.before],
      isClipped ? [T("after_clip"), shades.after, [6, 4]] : null,
      isLimited ? [T("clip_limit"), shades.limit, [2, 3]] : null,
      [smooth.length ? T("loss_smoothed") : T("scalar_loss"), shades.loss],
      hasRate ? [T("scalar_lr"), shades.lr, [5, 3]] : null,
      state.other ? [otherName(), shades.other, [8, 2]] : null,
      bad("grad_norm").length || bad("loss").length ? [T("state_4"), shades.nan, [], true] : null,
      currentMeta().epochs.length ? [T("epoch_begins"), shades.dim, [2, 3]] : null,
      resumedRows().length ? [T("resumed_here"), shades.warning, [4, 2]] : null,
    ]),
  );
}

/**
 * The scalars of another run at the same steps.
 *
 * @param {Scalars} scalars
 * @param {"low" | "high" | "last"} which
 * @param {string} name
 * @param {Cut} cut
 */
function alongside(scalars, which, name, cut) {
  const values = scalarOf(scalars, which, name);
  let at = 0;
  return cut.rows.map((row) => {
    while (at + 1 < scalars.starts.length && scalars.stops[at] <= row) at += 1;
    return scalars.starts[at] <= row + 1 && row < scalars.stops[at] ? values[at] : NaN;
  });
}
