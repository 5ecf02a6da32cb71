// The picture of the signals of modules: two courses over the calls, on one logarithmic scale.

/** @import { Pen, SignalCourse } from "./types.d.ts" */

import { fit, shortened, triangle } from "./canvas.js";
import { shades } from "./colours.js";
import { clamp, fmt, ticks } from "./numbers.js";
import { T } from "./texts.js";

export const SIGNAL_MARGINS = { left: 56, right: 14, top: 18, bottom: 36 };

const SIGNAL_HEIGHT = 300;

/**
 * The decades that hold all that can be drawn on a logarithmic scale, two at the least.
 *
 * @param {SignalCourse[]} courses
 */
function decadesOf(courses) {
  let low = Infinity,
    high = -Infinity;
  for (const { values } of courses) {
    for (const value of values) {
      if (value === null || !Number.isFinite(value) || value <= 0) continue;
      low = Math.min(low, Math.log10(value));
      high = Math.max(high, Math.log10(value));
    }
  }
  if (low > high) return [-3, 0];
  low = Math.floor(low - 0.1);
  high = Math.ceil(high + 0.1);
  return high - low < 2 ? [low - 1, high] : [low, high];
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {number} width
 * @param {string[]} names
 * @param {SignalCourse[]} courses
 * @param {boolean[]} chosen
 */
export function drawSignalPicture(canvas, width, names, courses, chosen) {
  const { left, right, top, bottom } = SIGNAL_MARGINS;
  const pen = fit(canvas, width, SIGNAL_HEIGHT);
  const base = SIGNAL_HEIGHT - bottom;
  const [low, high] = decadesOf(courses);
  /** @param {number} place */
  const x = (place) =>
    left + (names.length === 1 ? 0.5 : place / (names.length - 1)) * (width - left - right);
  /** @param {number} log */
  const y = (log) => top + ((high - log) / (high - low)) * (base - top);
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  for (const decade of ticks(low, high, 7).filter(Number.isInteger)) {
    pen.fillStyle = shades.grid;
    pen.fillRect(left, y(decade), width - left - right, 1);
    pen.fillStyle = shades.dim;
    pen.fillText(fmt(10 ** decade, 2), left - 6, y(decade));
  }
  pen.fillStyle = shades.cursor;
  chosen.forEach((isChosen, place) => {
    if (isChosen) pen.fillRect(x(place) - 0.75, top, 1.5, base - top);
  });
  for (const course of courses) drawCourse(pen, course, x, y, top, base);
  callLabels(pen, names, x, base + 5);
}

/**
 * A line through what is finite, broken where nothing was measured or is not finite; zeros lie on
 * the base line.
 *
 * @param {Pen} pen
 * @param {SignalCourse} course
 * @param {(place: number) => number} x
 * @param {(log: number) => number} y
 * @param {number} top
 * @param {number} base
 */
function drawCourse(pen, { values, colour }, x, y, top, base) {
  pen.strokeStyle = colour;
  pen.lineWidth = 1.5;
  pen.beginPath();
  let isDown = false;
  values.forEach((value, place) => {
    const isDrawn = value !== null && Number.isFinite(value) && value > 0;
    if (isDrawn && isDown) pen.lineTo(x(place), y(Math.log10(value)));
    else if (isDrawn) pen.moveTo(x(place), y(Math.log10(value)));
    isDown = isDrawn;
  });
  pen.stroke();
  pen.lineWidth = 1;
  const size = clamp(900 / values.length, 1, 3.5);
  values.forEach((value, place) => {
    if (value === null) return;
    pen.fillStyle = colour;
    if (!Number.isFinite(value)) triangle(pen, x(place), top - 6, 5, shades.nan);
    else if (value === 0) pen.fillRect(x(place) - 4, base - 4, 8, 4);
    else {
      pen.beginPath();
      pen.arc(x(place), y(Math.log10(value)), size, 0, 7);
      pen.fill();
    }
  });
}

/**
 * @param {Pen} pen
 * @param {string[]} names
 * @param {(place: number) => number} x
 * @param {number} y
 */
function callLabels(pen, names, x, y) {
  pen.font = "11px system-ui, 'Noto Sans', 'Noto Sans CJK SC', sans-serif";
  pen.fillStyle = shades.dim;
  pen.textBaseline = "top";
  pen.textAlign = "center";
  const room = x(names.length - 1) - x(0);
  const every = Math.max(1, Math.ceil(names.length / Math.max(1, Math.floor(room / 90))));
  for (let place = 0; place < names.length; place += every)
    pen.fillText(shortened(pen, names[place], 84), clamp(x(place), 44, x(0) + room - 14), y);
  if (names.length < 2) return;
  pen.textAlign = "left";
  pen.fillText(`← ${T("input")}`, x(0) - 4, y + 14);
  pen.textAlign = "right";
  pen.fillText(`${T("output")} →`, x(names.length - 1), y + 14);
}
