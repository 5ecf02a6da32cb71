// Why? The norms over depth at the chosen step, and the line through them: what a layer passes on
// of the gradient that it gets.

/** @import { Fit, Step } from "./answers.d.ts" */
/** @import { CellValue } from "./types.d.ts" */

import { fit } from "./canvas.js";
import { shades } from "./colours.js";
import { nearestText, setCursor } from "./cursor.js";
import { el } from "./dom.js";
import { drawnHeat } from "./heat_stage.js";
import { clamp, fmt, ticks } from "./numbers.js";
import { nothing, Panel } from "./panel.js";
import { isMatrix } from "./parameter_list.js";
import { depthLabels, drawBand, drawOther, drawPoint } from "./profile_drawing.js";
import { currentMeta, otherName, state } from "./state.js";
import { sentences, T } from "./texts.js";

const profileCanvas = el("canvas", { role: "img" });

const profileBox = el("div", { class: "canvas" }, profileCanvas);

const profileText = el("p", {});

const otherText = el("p", { hidden: true });

export const profilePanel = new Panel("profile", {
  title: "profile",
  sub: () =>
    state.step && state.step.row >= 0
      ? sentences(T("step", { step: state.step.step }), nearestText())
      : "",
  on: "meta step otherStep column rows",
  draw: drawProfile,
  table: () => ({
    head: ["parameter", "depth", "state", "norm", "fitted"].map((key) => T(`column_${key}`)),
    rows: state.step ? profileRows(state.step) : [],
  }),
});

/**
 * @param {Step} step
 * @returns {CellValue[][]}
 */
function profileRows(step) {
  return layersNow().map((column) => [
    currentMeta().parameters[column].name,
    currentMeta().parameters[column].depth ?? "–",
    T(`state_${step.states[column]}`),
    step.states[column] > 1 ? step.grad_norm[column] : "–",
    fittedAt(step, column) ?? "–",
  ]);
}

export function layersNow() {
  const { layers, parameters } = currentMeta();
  return layers.length
    ? layers
    : parameters.map((_, column) => column).filter((column) => isMatrix(parameters[column]));
}

/**
 * @param {Step} step
 * @param {number} column
 */
function fittedAt(step, column) {
  const { fit } = step;
  const place = fit ? fit.columns.indexOf(column) : -1;
  return !fit || place < 0 ? null : 10 ** (fit.intercept + fit.slope * place);
}

profileCanvas.addEventListener("click", (event) => {
  const layers = layersNow();
  const box = profileCanvas.getBoundingClientRect();
  const share = (event.clientX - box.left - 56) / (box.width - 66);
  if (layers.length)
    setCursor(
      state.row,
      layers[clamp(Math.round(share * (layers.length - 1)), 0, layers.length - 1)],
    );
});

/**
 * What a finding tells of the signal between the layers, beside the norms of their gradients.
 */
function signalText() {
  const told = currentMeta()
    .findings.flatMap((each) => each.evidence)
    .find((each) => each.statistic === "signal_gain");
  return told ? dimmed(` ${T("signal_gain", { gain: fmt(told.value, 2), step: told.step })}`) : "";
}

/** What the other run's layers had at this step: where over depth, from 0 to 1, and how large. */
function otherProfile() {
  const { otherStep: step, otherMeta } = state;
  if (!step?.states || !otherMeta || step.row < 0) return null;
  const last = Math.max(1, otherMeta.layers.length - 1);
  const points = otherMeta.layers
    .map((column, place) => ({
      place: otherMeta.layers.length === 1 ? 0.5 : place / last,
      log: step.states[column] === 3 ? Math.log10(step.grad_norm[column]) : NaN,
    }))
    .filter((each) => Number.isFinite(each.log));
  return { step, points };
}

/** @param {string} text */
const dimmed = (text) => el("span", { class: "dim" }, text);

/**
 * What a layer passes on of the gradient, strongly where the line fits well.
 *
 * @param {Step} step
 * @param {Fit | null} fitted
 */
function gainText(step, fitted) {
  if (!fitted) return [dimmed(T("gain_none"))];
  const { ends } = fitted;
  const gain = T("gain", { layers: ends.num_passed, gain: fmt(ends.gain, 2) });
  const rest = T("gain_rest", {
    last: ends.last,
    last_norm: fmt(ends.last_norm, 3),
    first: ends.first,
    first_norm: fmt(ends.first_norm, 3),
    goodness: fitted.goodness.toFixed(2),
  });
  return [
    el(fitted.goodness < 0.5 ? "span" : "strong", {}, gain),
    ` ${rest}`,
    fitted.row !== step.row ? ` ${T("gain_at", { step: fitted.step })}` : "",
  ];
}

/**
 * @param {HTMLElement} body
 * @param {number} room
 */
function drawProfile(body, room) {
  const layers = currentMeta().rows ? layersNow() : [];
  if (!layers.length) return nothing(body, T(currentMeta().rows ? "no_layers" : "no_steps"));
  const { step } = state;
  if (!step?.states) return nothing(body, T("loading"));
  if (profileBox.parentNode !== body) body.replaceChildren(profileText, otherText, profileBox);
  const fitted = step.fit;
  profileText.replaceChildren(...gainText(step, fitted), signalText());
  const other = otherProfile();
  otherText.hidden = !other;
  if (other) {
    const name = el("strong", { class: "other" }, `○ ${otherName()}`);
    otherText.replaceChildren(name, ": ", ...gainText(other.step, other.step.fit));
  }
  const { geometry } = drawnHeat;
  // as high as the heat map that it is beside
  const beside = geometry && window.innerWidth >= 1000 ? geometry.height - 90 : 0;
  const width = room || 400,
    height = Math.max(340, beside),
    left = 56,
    right = 10,
    top = 22,
    bottom = 34;
  const pen = fit(profileCanvas, width, height);
  profileCanvas.setAttribute(
    "aria-label",
    T("profile_label", { layers: layers.length, step: step.step }),
  );
  const values = layers.map((column) => ({
    column,
    state: step.states[column],
    norm: step.grad_norm[column],
  }));
  const logs = values
    .filter((each) => each.state === 3 && each.norm > 0)
    .map((each) => Math.log10(each.norm));
  if (other) logs.push(...other.points.map((each) => each.log));
  if (fitted)
    logs.push(fitted.intercept, fitted.intercept + fitted.slope * (fitted.columns.length - 1));
  let low = Math.floor(Math.min(...logs) - 0.1),
    high = Math.ceil(Math.max(...logs) + 0.1);
  if (!logs.length) {
    low = -3;
    high = 0;
  }
  if (high - low < 2) {
    low -= 1;
    high += 1;
  }
  /** @param {number} place */
  const x = (place) =>
    left + (layers.length === 1 ? 0.5 : place / (layers.length - 1)) * (width - left - right);
  /** @param {number} log */
  const y = (log) => top + ((high - log) / (high - low)) * (height - top - bottom);
  if (fitted)
    drawBand(pen, fitted, layers, x, y, [left, top, width - left - right, height - top - bottom]);
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  for (const decade of ticks(low, high, 8).filter(Number.isInteger)) {
    pen.strokeStyle = shades.grid;
    pen.beginPath();
    pen.moveTo(left, y(decade));
    pen.lineTo(width - right, y(decade));
    pen.stroke();
    pen.fillStyle = shades.dim;
    pen.fillText(fmt(10 ** decade, 2), left - 6, y(decade));
  }
  if (fitted) {
    pen.strokeStyle = shades.error;
    pen.lineWidth = 2;
    pen.beginPath();
    const placeOf = new Map(layers.map((column, place) => [column, place]));
    fitted.columns.forEach((column, place) => {
      pen.lineTo(x(placeOf.get(column) ?? 0), y(fitted.intercept + fitted.slope * place));
    });
    pen.stroke();
    pen.lineWidth = 1;
  }
  if (other) drawOther(pen, other.points, (place) => left + place * (width - left - right), y);
  const size = clamp(1000 / layers.length, 1.2, 3.5);
  for (const isChosen of [false, true]) {
    // the chosen one above all others
    values.forEach((each, place) => {
      if ((each.column === state.column) === isChosen)
        drawPoint(pen, each, x(place), y, top, height - bottom, size);
    });
  }
  depthLabels(pen, layers, x, height - bottom + 5);
}
