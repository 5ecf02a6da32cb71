// The parts of the picture of the profile over depth.

/** @import { Fit } from "./answers.d.ts" */
/** @import { Pen, Point } from "./types.d.ts" */

import { shortened, triangle } from "./canvas.js";
import { fade, shades } from "./colours.js";
import { clamp, fmt } from "./numbers.js";
import { currentMeta, state } from "./state.js";
import { T } from "./texts.js";

/**
 * The healthy slope, not a healthy norm: the lines through the end at the output with the gains
 * from which the rules would look closer.
 *
 * @param {Pen} pen
 * @param {Fit} fitted
 * @param {number[]} layers
 * @param {(place: number) => number} x
 * @param {(log: number) => number} y
 * @param {number[]} box
 */
export function drawBand(pen, fitted, layers, x, y, [left, top, wide, high]) {
  const last = fitted.columns.length - 1;
  const anchor = fitted.intercept + fitted.slope * last;
  const [small, large] = currentMeta().gain_band.map(Math.log10);
  const start = x(layers.indexOf(fitted.columns[0])),
    end = x(layers.indexOf(fitted.columns[last]));
  pen.save();
  pen.beginPath();
  pen.rect(left, top, wide, high);
  pen.clip();
  pen.fillStyle = fade("#1a7f4b", 0.14);
  pen.beginPath();
  pen.moveTo(end, y(anchor));
  pen.lineTo(start, y(anchor + small * last));
  pen.lineTo(start, y(anchor + large * last));
  pen.fill();
  pen.fillStyle = shades.dim;
  pen.textAlign = "left";
  pen.textBaseline = "top";
  pen.font = "11px system-ui, 'Noto Sans', 'Noto Sans CJK SC', sans-serif";
  pen.fillText(
    T("gain_band", {
      low: fmt(currentMeta().gain_band[0], 2),
      high: fmt(currentMeta().gain_band[1], 2),
    }),
    left + 4,
    top + 3,
  );
  pen.restore();
}

/**
 * @param {Pen} pen
 * @param {Point} point
 * @param {number} x
 * @param {(log: number) => number} y
 * @param {number} top
 * @param {number} base
 * @param {number} size
 */
export function drawPoint(pen, { column, state: kind, norm }, x, y, top, base, size) {
  const chosen = column === state.column;
  if (kind === 4) {
    triangle(pen, x, top - 4, chosen ? 7 : 5, shades.nan);
    pen.fillStyle = shades.nan;
    pen.textAlign = "center";
    pen.textBaseline = "bottom";
    if (chosen) pen.fillText("NaN/Inf", clamp(x, 80, 1e4), top - 8);
    return;
  }
  if (kind === 2) {
    pen.fillStyle = shades.text;
    pen.fillRect(x - 4, base - 4, 8, 4);
    return;
  }
  if (kind < 2) {
    pen.strokeStyle = shades["absent-line"];
    pen.strokeRect(x - 3, base - 3, 6, 6);
    return;
  }
  pen.fillStyle = chosen ? shades.cursor : shades.before;
  pen.beginPath();
  pen.arc(x, y(Math.log10(Math.max(norm, 1e-300))), chosen ? 6 : size, 0, 7);
  pen.fill();
}

/**
 * The layers of the run that this one is compared with, as rings on a line.
 *
 * @param {Pen} pen
 * @param {{ place: number, log: number }[]} points
 * @param {(place: number) => number} x
 * @param {(log: number) => number} y
 */
export function drawOther(pen, points, x, y) {
  pen.strokeStyle = shades.other;
  pen.setLineDash([4, 3]);
  pen.beginPath();
  for (const { place, log } of points) pen.lineTo(x(place), y(log));
  pen.stroke();
  pen.setLineDash([]);
  for (const { place, log } of points) {
    pen.beginPath();
    pen.arc(x(place), y(log), points.length > 200 ? 1.5 : 3.5, 0, 7);
    pen.stroke();
  }
}

/**
 * @param {Pen} pen
 * @param {number[]} layers
 * @param {(place: number) => number} x
 * @param {number} y
 */
export function depthLabels(pen, layers, x, y) {
  pen.font = "11px system-ui, sans-serif";
  pen.fillStyle = shades.dim;
  pen.textBaseline = "top";
  const room = x(layers.length - 1) - x(0);
  const every = Math.max(1, Math.ceil(layers.length / Math.max(1, Math.floor(room / 70))));
  pen.textAlign = "center";
  for (let place = 0; place < layers.length; place += every) {
    const name =
      currentMeta().parameters[layers[place]].name.split(".").slice(0, -1).slice(0, 2).join(".") ||
      currentMeta().parameters[layers[place]].name;
    pen.fillText(shortened(pen, name, 66), clamp(x(place), 40, x(0) + room - 10), y);
  }
  if (layers.length < 2) return;
  pen.textAlign = "left";
  pen.fillText(`← ${T("input")}`, x(0) - 4, y + 14);
  pen.textAlign = "right";
  pen.fillText(`${T("output")} →`, x(layers.length - 1), y + 14);
}
