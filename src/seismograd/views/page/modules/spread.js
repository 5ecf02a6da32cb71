// How are the scalars spread? Counts by binary exponent at the sampled steps, with what the dtype
// can hold drawn in.

/** @import { Pen } from "./types.d.ts" */

import { triangle } from "./canvas.js";
import { along, shades, VIRIDIS } from "./colours.js";
import { stepOf } from "./cursor.js";
import { on } from "./events.js";
import { binOf, countAt, exponentOf, filledBins } from "./histogram_bins.js";
import { clamp, count, share, ticks } from "./numbers.js";
import { nothing, Panel } from "./panel.js";
import { Stage } from "./stage.js";
import { chosenName, currentMeta, currentSource, state } from "./state.js";
import { sentences, T } from "./texts.js";

/**
 * Of each dtype the binary exponents of its smallest subnormal number, its smallest normal one,
 * and what it cannot hold any more.
 *
 * @type {Record<string, number[]>}
 */
const LIMITS = {
  float16: [-24, -14, 16],
  bfloat16: [-133, -126, 128],
  float32: [-149, -126, 128],
  float64: [-1074, -1022, 1024],
};

const spreadStage = new Stage(() => T("spread_label", { parameter: chosenName() }), {
  hint: spreadHint,
});

export const spreadPanel = new Panel("spread", {
  title: "spread",
  sub: () =>
    sentences(
      state.histogram && state.histogram.column < 0
        ? T("spread_all", { parameter: chosenName() })
        : chosenName(),
      state.histogram && state.histogram.every > 1
        ? T("every_sample", { number: state.histogram.every })
        : "",
    ),
  on: "meta window histogram heat",
  draw: drawSpread,
  table: () => {
    const found = state.histogram;
    if (!found) return { head: [T("column_step")], rows: [] };
    const [low, high] = filledBins(found);
    /** @type {number[]} */
    const bins = [];
    for (let bin = low; bin <= high; bin += 1) bins.push(bin);
    return {
      head: [T("column_step"), ...bins.map((bin) => `2^${exponentOf(bin)}`)],
      rows: Array.from(found.rows, (row, index) => [
        stepOf(row),
        ...bins.map((bin) => countAt(found, index, bin)),
      ]),
    };
  },
});

on("cursor", () => {
  if (!spreadPanel.asTable && spreadStage.root.isConnected && spreadStage.width)
    spreadStage.cursor();
});

/**
 * How the exponents of the last drawing lie.
 *
 * @type {{ low: number, high: number, base: number } | null}
 */
export let scale = null;

/**
 * @param {HTMLElement} body
 * @param {number} room
 */
function drawSpread(body, room) {
  const found = state.histogram;
  if (!currentMeta().rows) return nothing(body, T("no_steps"));
  if (found === null && !currentSource().live) return nothing(body, T("not_in_report"));
  if (!found) return nothing(body, T("loading"));
  const [filledLow, filledHigh] = filledBins(found);
  if (!found.rows.length || filledHigh < 0) return nothing(body, T("no_samples"));
  const parameter = currentMeta().parameters[state.column];
  const dtype = parameter?.compute_dtype || parameter?.dtype || "";
  const limits = LIMITS[dtype] ?? [];
  const near = limits.map(binOf).filter((bin) => bin > filledLow - 8 && bin < filledHigh + 8);
  const low = Math.floor(Math.min(filledLow, ...near)) - 1,
    high = Math.ceil(Math.max(filledHigh, ...near)) + 2;
  spreadStage.left = 52;
  spreadStage.top = 12;
  const pen = spreadStage.begin(body, room, 300);
  const base = spreadStage.height - spreadStage.bottom;
  /** @param {number} bin */
  const y = (bin) => base - ((bin - low) / (high - low)) * (base - spreadStage.top);
  scale = { low, high, base };
  pen.save();
  pen.beginPath();
  pen.rect(spreadStage.left, 0, spreadStage.inner, base);
  pen.clip();
  for (let index = 0; index < found.rows.length; index += 1) {
    const start = found.rows[index],
      next =
        index + 1 < found.rows.length
          ? found.rows[index + 1]
          : start + (index ? start - found.rows[index - 1] : 10);
    if (next < state.start || start >= state.stop) continue;
    const x = spreadStage.x(start),
      wide = Math.max(1, spreadStage.x(Math.min(next, start + 10 * found.every)) - x) + 0.5;
    for (let bin = filledLow; bin <= filledHigh; bin += 1) {
      const value = countAt(found, index, bin);
      if (!(value > 0)) continue;
      const strength = 1 + Math.log10(value / found.numel) / 6; // a millionth is the faintest
      pen.fillStyle = `rgb(${along(VIRIDIS, clamp(strength, 0.02, 1)).join(",")})`;
      pen.fillRect(x, y(bin + 1), wide, y(bin) - y(bin + 1) + 0.5);
    }
  }
  nonfiniteTicks(pen);
  pen.restore();
  drawExponents(pen, y, low, high);
  drawLimits(pen, y, limits, dtype, low, high);
  spreadStage.axis(pen);
  spreadStage.cursor();
}

/** @param {Pen} pen */
function nonfiniteTicks(pen) {
  if (!state.heat || state.column < 0) return;
  const width = state.heat.codes.shape[1];
  for (let at = 0; at < width; at += 1) {
    if (state.heat.codes[state.column * width + at] !== 32767) continue;
    triangle(
      pen,
      clamp(
        spreadStage.x((state.heat.starts[at] + state.heat.stops[at]) / 2),
        spreadStage.left + 4,
        spreadStage.left + spreadStage.inner - 4,
      ),
      6,
      5,
      shades.nan,
    );
  }
}

/**
 * @param {Pen} pen
 * @param {(bin: number) => number} y
 * @param {number} low
 * @param {number} high
 */
function drawExponents(pen, y, low, high) {
  pen.fillStyle = shades.dim;
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  for (const exponent of ticks(exponentOf(low), exponentOf(high), 9).filter(
    (each) => each % 2 === 0,
  )) {
    pen.fillText(`2^${exponent}`, spreadStage.left - 5, y(binOf(exponent)));
  }
}

/**
 * @param {Pen} pen
 * @param {(bin: number) => number} y
 * @param {number[]} limits
 * @param {string} dtype
 * @param {number} low
 * @param {number} high
 */
function drawLimits(pen, y, limits, dtype, low, high) {
  pen.textAlign = "right";
  pen.textBaseline = "bottom";
  pen.font = "11px system-ui, 'Noto Sans', 'Noto Sans CJK SC', sans-serif";
  limits.forEach((exponent, index) => {
    const bin = binOf(exponent);
    if (bin <= low || bin >= high) return;
    for (const { colour, width, pattern } of [
      { colour: shades.panel, width: 4, pattern: [] },
      { colour: shades.error, width: 1.5, pattern: [5, 4] },
    ]) {
      pen.strokeStyle = colour;
      pen.lineWidth = width;
      pen.setLineDash(pattern);
      pen.beginPath();
      pen.moveTo(spreadStage.left, y(bin));
      pen.lineTo(spreadStage.left + spreadStage.inner, y(bin));
      pen.stroke();
    }
    pen.setLineDash([]);
    const text = T(["limit_subnormal", "limit_normal", "limit_largest"][index], {
      dtype,
      exponent,
    });
    const wide = pen.measureText(text).width;
    pen.fillStyle = shades.panel;
    pen.fillRect(spreadStage.left + spreadStage.inner - wide - 6, y(bin) - 15, wide + 6, 14);
    pen.fillStyle = shades.error;
    pen.fillText(text, spreadStage.left + spreadStage.inner - 3, y(bin) - 2);
  });
  if (
    limits.length &&
    !limits.some((exponent) => binOf(exponent) > low && binOf(exponent) < high)
  ) {
    pen.fillStyle = shades.dim;
    pen.fillText(
      T("limits_outside", { dtype, low: limits[1], high: limits[2] }),
      spreadStage.left + spreadStage.inner - 3,
      spreadStage.top + 12,
    );
  }
}

/**
 * @param {number} row
 * @param {number} y
 */
function spreadHint(row, y) {
  const found = state.histogram;
  if (!found || !scale) return null;
  let index = found.rows.findIndex((each) => each > row) - 1;
  if (index === -2) index = found.rows.length - 1;
  if (index < 0) return null;
  const bin = Math.floor(
    scale.low + ((scale.base - y) / (scale.base - spreadStage.top)) * (scale.high - scale.low),
  );
  if (bin < 0 || bin >= currentMeta().histogram.bins) return null;
  const value = countAt(found, index, bin);
  return [
    T("step", { step: stepOf(found.rows[index]) }),
    `2^${exponentOf(bin)} ≤ |g| < 2^${exponentOf(bin + 1)}`,
    Number.isNaN(value) ? T("state_0") : `${count(value)} (${share(value, found.numel)})`,
  ].join("\n");
}
