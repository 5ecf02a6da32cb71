// The gradients of single units as pictures, from the snapshot nearest to the cursor: of a first
// layer on images, of filters, of the rows of an embedding.

/** @import { UnitPictures } from "./answers.d.ts" */
/** @import { TableContent } from "./types.d.ts" */

import { shades } from "./colours.js";
import { setCursor, stepOf } from "./cursor.js";
import { chosenValue, el } from "./dom.js";
import { paints } from "./heat_colours.js";
import { clamp, count, fmt, share } from "./numbers.js";
import { nothing, Panel } from "./panel.js";
import { currentMeta, currentSource, picturedColumn, state } from "./state.js";
import { sentences, T } from "./texts.js";
import { drawUnit, pictureSize } from "./unit_pixels.js";

const LARGE = 308; // CSS pixels of the chosen unit's picture
const SMALL = 72;
const WIDE = 768; // of a row of an embedding
const ROW_HEIGHT = 14;

const largeCanvas = el("canvas", { role: "img" });

const largeText = el("p", {});

const largeBox = el("figure", { class: "unit" }, largeCanvas);

const unitList = el("div", { class: "units" });

const unitSummary = el("p", {});

const unitKey = el("p", { class: "dim" });

/** The number of the unit that is shown large. */
let chosenUnit = -1;

export const picturesPanel = new Panel("pictures", {
  title: "pictures",
  sub: () => {
    const name = currentMeta().parameters[picturedColumn()]?.name;
    const found = picturesNow();
    if (!found || found.step < 0) return name ?? "";
    const wanted = stepOf(state.row);
    return sentences(
      name,
      T(wanted === found.step ? "pictures_at" : "pictures_nearest", { step: found.step, wanted }),
    );
  },
  on: "meta picture cursor column",
  own: () => (currentMeta().pictures.length > 1 ? [pictureChoice()] : []),
  draw: drawPictures,
  table: () => pictureTable(picturesNow()),
});

function pictureChoice() {
  const shown = picturedColumn();
  return el(
    "select",
    {
      "data-name": "pictured",
      "aria-label": T("pictures"),
      onchange: (/** @type {Event} */ event) => setCursor(state.row, Number(chosenValue(event))),
    },
    ...currentMeta().pictures.map((column) =>
      el(
        "option",
        { value: String(column), selected: column === shown },
        currentMeta().parameters[column].name,
      ),
    ),
  );
}

/** The answer, where it is for the weight that is shown. */
function picturesNow() {
  const found = state.picture;
  return found && found.column === picturedColumn() ? found : null;
}

/**
 * @param {UnitPictures | null} found
 * @returns {TableContent}
 */
function pictureTable(found) {
  const head = ["unit", "norm", "max", "zeros", "nonfinite"].map((key) => T(`pictures_${key}`));
  if (!found || found.step < 0) return { head, rows: [] };
  const rows = Array.from(found.unit, (unit, at) => [
    unit,
    found.nonfinite[at] ? "NaN/Inf" : found.norm[at],
    found.largest[at],
    share(found.zeros[at], 1),
    share(found.nonfinite[at], 1),
  ]);
  return { head, rows };
}

/** @param {HTMLElement} body */
function drawPictures(body) {
  if (!currentMeta().pictures.length) return body.replaceChildren(); // hidden, and never asked for
  const found = picturesNow();
  if (!found)
    return nothing(
      body,
      T(state.picture === null && !currentSource().live ? "not_in_report" : "loading"),
    );
  if (found.step < 0) return nothing(body, T("pictures_none"));
  const { wide, high } = pictureSize(found);
  const isRow = high === 1;
  const at = Math.max(0, found.unit.indexOf(chosenUnit));
  unitSummary.replaceChildren(unitWords(found));
  unitKey.replaceChildren(
    sentences(T("pictures_key"), found.nonfinite.some((each) => each > 0) ? T("pictures_bad") : ""),
  );
  const focused = document.activeElement?.getAttribute("data-unit");
  const shown = Array.from(found.unit, (_, each) =>
    isRow ? unitRow(found, each) : unitButton(found, each, at),
  );
  unitList.replaceChildren(...shown);
  unitList.classList.toggle("rows", isRow);
  if (focused) {
    const again = unitList.querySelector(`[data-unit="${focused}"]`);
    if (again instanceof HTMLElement) again.focus();
  }
  largeBox.hidden = isRow;
  if (!isRow) {
    const scale = clamp(Math.floor(LARGE / Math.max(wide, high)), 1, 40);
    drawUnit(largeCanvas, found, at, [scale, scale], paints());
    largeCanvas.setAttribute("aria-label", unitLabel(found, at));
    largeText.replaceChildren(unitLabel(found, at));
    largeBox.replaceChildren(largeCanvas, el("figcaption", {}, largeText));
  }
  body.replaceChildren(unitSummary, unitKey, el("div", { class: "pictures" }, largeBox, unitList));
}

/** @param {UnitPictures} found */
function unitWords(found) {
  const [, planes, height, width] = found.codes.shape;
  const { shape } = currentMeta().parameters[found.column];
  const numbers = count(shape.slice(1).reduce((product, each) => product * each, 1));
  const form = height === 1 ? "row" : planes === 1 ? "plane" : "planes";
  return sentences(
    T(`pictures_${form}`, { numbers, planes, height, width }),
    T("pictures_shown", { shown: found.unit.length, all: count(found.units) }),
    found.zero_units
      ? T("pictures_zero", { number: count(found.zero_units), all: count(found.units) })
      : "",
  );
}

/**
 * @param {UnitPictures} found
 * @param {number} at
 */
const unitLabel = (found, at) =>
  T("pictures_label", {
    unit: found.unit[at],
    norm: found.nonfinite[at] ? "NaN/Inf" : fmt(found.norm[at], 3),
    largest: fmt(found.largest[at], 3),
  });

/**
 * @param {UnitPictures} found
 * @param {number} each
 */
function unitCaption(found, each) {
  const norm = found.nonfinite[each] ? "NaN/Inf" : fmt(found.norm[each], 2);
  const words = el("span", {}, `${found.unit[each]} · ${norm}`);
  if (found.nonfinite[each]) words.style.color = shades.nan;
  return words;
}

/**
 * @param {UnitPictures} found
 * @param {number} each
 */
function unitRow(found, each) {
  const canvas = el("canvas", { role: "img", "aria-label": unitLabel(found, each) });
  const across = clamp(Math.floor(WIDE / pictureSize(found).wide), 1, 12);
  drawUnit(canvas, found, each, [across, ROW_HEIGHT], paints());
  return el("div", {}, unitCaption(found, each), canvas);
}

/**
 * @param {UnitPictures} found
 * @param {number} each
 * @param {number} chosen
 */
function unitButton(found, each, chosen) {
  const { wide, high } = pictureSize(found);
  const canvas = el("canvas", { "aria-hidden": "true" });
  const scale = clamp(Math.floor(SMALL / Math.max(wide, high)), 1, 16);
  drawUnit(canvas, found, each, [scale, scale], paints());
  return el(
    "button",
    {
      type: "button",
      "data-unit": String(found.unit[each]),
      "aria-label": unitLabel(found, each),
      "aria-pressed": String(each === chosen),
      onclick: () => {
        chosenUnit = found.unit[each];
        picturesPanel.refresh();
      },
    },
    canvas,
    unitCaption(found, each),
  );
}
