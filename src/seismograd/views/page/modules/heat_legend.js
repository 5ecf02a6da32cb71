// What the colours of the heat map mean that are no numbers.

import { penOf } from "./canvas.js";
import { el } from "./dom.js";
import { paints, special } from "./heat_colours.js";
import { renewed } from "./heat_picture.js";
import { look } from "./look.js";
import { T } from "./texts.js";

const patches = new Map(
  [32767, -32767, -32768].map((code) => [
    code,
    el("canvas", { width: "18", height: "12", "aria-hidden": "true" }),
  ]),
);

const legend = el("div", { class: "legend" });

const legendOf = { key: [] };

/**
 * @param {HTMLElement} body
 * @param {boolean} isRelative
 */
export function heatLegend(body, isRelative) {
  if (legend.parentNode !== body) body.append(legend);
  if (!renewed(legendOf, [isRelative, look.theme, look.lang])) return;
  const paint = paints();
  for (const [code, canvas] of patches) {
    const image = new ImageData(18, 12);
    const pixels = new Int32Array(image.data.buffer);
    for (let at = 0; at < pixels.length; at += 1)
      pixels[at] = special(code, at % 18, Math.floor(at / 18), paint);
    penOf(canvas).putImageData(image, 0, 0);
  }
  legend.replaceChildren(
    el("span", {}, patches.get(32767), T("state_4")),
    el("span", {}, patches.get(-32767), T("state_2")),
    el("span", {}, patches.get(-32768), T("state_1")),
    el("span", {}, T("legend_blank")),
    el("span", {}, T(isRelative ? "legend_relative" : "legend_scale")),
  );
}
