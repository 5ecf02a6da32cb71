// What the colours of the heat map mean that are no numbers.

/** @import { Heat } from "./answers.d.ts" */

import { penOf } from "./canvas.js";
import { el } from "./dom.js";
import { paints, special } from "./heat_colours.js";
import { renewed } from "./heat_picture.js";
import { look } from "./look.js";
import { sentences, T } from "./texts.js";

const patches = new Map(
  [32767, -32767, -32768].map((code) => [
    code,
    el("canvas", { width: "18", height: "12", "aria-hidden": "true" }),
  ]),
);

const legend = el("div", { class: "legend" });

const legendOf = { key: [] };

/** @type {WeakMap<Heat, Set<number>>} */
const occurring = new WeakMap();

/**
 * The states that a heat map has anywhere: only these are explained.
 *
 * @param {Heat | null} heat
 */
function statesOf(heat) {
  const known = heat && occurring.get(heat);
  if (known) return known;
  /** @type {Set<number>} */
  const found = new Set();
  for (const code of heat?.codes ?? []) if (Math.abs(code) > 32000) found.add(code);
  if (heat) occurring.set(heat, found);
  return found;
}

/**
 * @param {HTMLElement} body
 * @param {Heat | null} heat
 * @param {boolean} isRelative
 */
export function heatLegend(body, heat, isRelative) {
  if (legend.parentNode !== body) body.append(legend);
  if (!renewed(legendOf, [heat, isRelative, look.theme, look.lang])) return;
  const there = statesOf(heat);
  const paint = paints();
  for (const [code, canvas] of patches) {
    const image = new ImageData(18, 12);
    const pixels = new Int32Array(image.data.buffer);
    for (let at = 0; at < pixels.length; at += 1)
      pixels[at] = special(code, at % 18, Math.floor(at / 18), paint);
    penOf(canvas).putImageData(image, 0, 0);
  }
  legend.replaceChildren(
    ...[
      [32767, "state_4"],
      [-32767, "state_2"],
      [-32768, "state_1"],
    ].map(([code, key]) =>
      there.has(Number(code)) ? el("span", {}, patches.get(Number(code)), T(String(key))) : "",
    ),
    there.has(32766) ? el("span", {}, T("legend_blank")) : "",
    el(
      "span",
      {},
      sentences(
        T(isRelative ? "legend_relative" : "legend_scale"),
        there.has(32767) ? T("legend_mark") : "",
      ),
    ),
  );
}
