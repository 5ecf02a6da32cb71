// The seismogram: one trace per layer over the whole run, the worst on top.

/** @import { Shape } from "./answers.d.ts" */

import { setCursor, stepOf } from "./cursor.js";
import { el } from "./dom.js";
import { on } from "./events.js";
import { clamp, fmt } from "./numbers.js";
import { nothing, Panel } from "./panel.js";
import { currentMeta, state } from "./state.js";
import { sentences, T } from "./texts.js";
import { painted } from "./timing.js";

const seismogramBox = el("div", { class: "scroll seismogram-box", tabindex: "0" });

export const seismogramPanel = new Panel("seismogram", {
  title: "seismogram",
  sub: () =>
    state.seismogram && currentMeta().rows
      ? T("seismogram_sub", {
          smallest: fmt(state.seismogram.smallest, 2),
          largest: fmt(state.seismogram.largest, 2),
        })
      : "",
  on: "meta seismogram",
  draw: drawSeismogram,
  table: () => ({
    head: ["parameter", "norm", "nonfinite_columns", "findings"].map((key) => T(`column_${key}`)),
    rows: (state.seismogram?.channels ?? []).map((each) => [
      each.label,
      fmt(each.typical, 4),
      each.nonfinite,
      each.codes.join(" "),
    ]),
  }),
});

/** @type {unknown} */
let drawnSeismogram = null;

/** @param {HTMLElement} body */
function drawSeismogram(body) {
  const { seismogram } = state;
  if (!currentMeta().rows) return nothing(body, T("no_steps"));
  if (!seismogram) return;
  if (drawnSeismogram !== seismogram || !body.contains(seismogramBox)) {
    drawnSeismogram = seismogram;
    const picture = svgElement(seismogram.namespace, [
      "svg",
      {
        class: "seismogram",
        role: "img",
        "aria-label": T("seismogram"),
        viewBox: `0 0 ${seismogram.width} ${seismogram.height}`,
      },
      "",
      [...seismogram.shapes, ["path", { class: "cursor", d: "" }, "", []]],
    ]);
    picture.addEventListener("click", (event) => pickChannel(/** @type {MouseEvent} */ (event)));
    seismogramBox.replaceChildren(picture);
    body.replaceChildren(seismogramBox);
  }
  drawSeismogramCursor();
  painted("seismogram");
}

/**
 * @param {string} namespace
 * @param {Shape} shape
 * @returns {Element}
 */
function svgElement(namespace, [tag, attributes, text, inner]) {
  const made = document.createElementNS(namespace, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text) made.append(text);
  for (const each of inner) made.append(svgElement(namespace, each));
  return made;
}

function drawSeismogramCursor() {
  const { seismogram } = state;
  const line = seismogramBox.querySelector(".cursor");
  if (!seismogram || !line) return;
  const share = (state.row + 0.5) / Math.max(1, currentMeta().rows);
  const x = seismogram.left + share * (seismogram.right - seismogram.left);
  line.setAttribute("d", `M${x.toFixed(1)} 18V${seismogram.height - 24}`);
  seismogramBox.title = sentences(T("step", { step: stepOf(state.row) }), T("go_there"));
}

/** @param {MouseEvent} event */
function pickChannel(event) {
  const { seismogram } = state;
  const picture = event.currentTarget;
  if (!seismogram || !(picture instanceof Element) || !(event.target instanceof Element)) return;
  const box = picture.getBoundingClientRect();
  const x = ((event.clientX - box.left) / box.width) * seismogram.width;
  const share = clamp((x - seismogram.left) / (seismogram.right - seismogram.left), 0, 1);
  const channel = event.target.closest("[data-column]");
  setCursor(
    x < seismogram.left ? state.row : share * (currentMeta().rows - 1),
    channel ? Number(channel.getAttribute("data-column")) : undefined,
  );
}

on("cursor", drawSeismogramCursor);
