// Painting the heat map: only what has changed is computed again.

/** @import { Heat } from "./answers.d.ts" */
/** @import { Geometry, Pen } from "./types.d.ts" */

import { triangle } from "./canvas.js";
import { along, DIVERGING, shades, VIRIDIS } from "./colours.js";
import { reduceHeat, scaleOf } from "./heat_codes.js";
import { colourCodes } from "./heat_colours.js";
import { isDifference } from "./heat_derived.js";
import { drawnHeat, heatStage } from "./heat_stage.js";
import { look } from "./look.js";
import { clamp, fmt, ticks } from "./numbers.js";
import { state } from "./state.js";
import { timed } from "./timing.js";

/** @type {WeakMap<Heat, [number, number]>} */
const scales = new WeakMap();

// What lies under the pixels: another scale or theme only colours it anew.
const reduced = { key: /** @type {unknown[]} */ ([]), codes: new Int32Array() };

// The picture of it, and above which pixels there is a mark: moving the cursor leaves that.
const coloured = {
  key: /** @type {unknown[]} */ ([]),
  image: /** @type {ImageData | null} */ (null),
  marks: new Uint8Array(),
};

/**
 * @param {Pen} pen
 * @param {Heat} heat
 * @param {Geometry} geometry
 */
export function paintHeat(pen, heat, geometry) {
  const ratio = window.devicePixelRatio || 1;
  const wide = Math.max(1, Math.round(heatStage.inner * ratio)),
    high = Math.max(1, Math.round(geometry.height * ratio));
  const isRelative = isDifference() || state.scale === "row";
  const scale = scales.get(heat) ?? scaleOf(heat, isRelative);
  scales.set(heat, scale);
  const [low, top] = scale;
  const { bins } = geometry;
  if (renewed(reduced, [heat, state.rows, state.start, state.stop, wide, bins])) {
    reduced.codes = reduceHeat(heat, wide, bins, (bin) => state.rows.slice(...geometry.of(bin)));
  }
  const begun = performance.now();
  const isNew = renewed(coloured, [reduced.codes, high, look.theme]);
  if (isNew)
    Object.assign(
      coloured,
      colourCodes(
        reduced.codes,
        wide,
        high,
        bins,
        scale,
        isRelative ? DIVERGING : VIRIDIS,
        coloured.image,
      ),
    );
  const [left, above] = [Math.round(heatStage.left * ratio), Math.round(heatStage.top * ratio)];
  if (coloured.image) pen.putImageData(coloured.image, left, above);
  if (isNew) timed("colours", begun);
  for (let x = 0; x < wide; x += 1) {
    if (coloured.marks[x] && (x === 0 || !coloured.marks[x - 1] || x % 12 === 0))
      triangle(pen, heatStage.left + x / ratio, heatStage.top - 6, 5, shades.nan);
  }
  pen.strokeStyle = shades.line;
  pen.strokeRect(
    heatStage.left - 0.5,
    heatStage.top - 0.5,
    heatStage.inner + 1,
    geometry.height + 1,
  );
  colourBar(pen, geometry.height, low, top, isRelative);
  Object.assign(drawnHeat, { heat, isRelative });
  heatStage.canvas.dataset.shows = heat.window ?? "";
}

/** There is nothing to see, so nothing is told of what is under the pointer. */
export function forgetHeat() {
  drawnHeat.heat = null;
  delete heatStage.canvas.dataset.shows;
}

/**
 * Whether what is kept was made from other things than these; they are noted.
 *
 * @param {{ key: unknown[] }} kept
 * @param {unknown[]} key
 */
export function renewed(kept, key) {
  if (key.length === kept.key.length && key.every((each, index) => each === kept.key[index]))
    return false;
  kept.key = key;
  return true;
}

/**
 * @param {Pen} pen
 * @param {number} height
 * @param {number} low
 * @param {number} top
 * @param {boolean} isRelative
 */
function colourBar(pen, height, low, top, isRelative) {
  const x = heatStage.left + heatStage.inner + 8;
  for (let y = 0; y < height; y += 1) {
    pen.fillStyle = `rgb(${along(isRelative ? DIVERGING : VIRIDIS, 1 - y / height).join(",")})`;
    pen.fillRect(x, heatStage.top + y, 10, 1.5);
  }
  pen.fillStyle = shades.dim;
  pen.textAlign = "left";
  pen.textBaseline = "middle";
  for (const decade of ticks(low, top, height / 40)) {
    const y = heatStage.top + height * (1 - (decade - low) / (top - low));
    const text = isRelative ? `×${fmt(10 ** (decade / 1000), 2)}` : fmt(10 ** (decade / 1000), 2);
    pen.fillText(text, x + 13, clamp(y, heatStage.top + 6, heatStage.top + height - 6));
  }
}
