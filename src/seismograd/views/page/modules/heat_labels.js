// What moves with the cursor in the heat map: the names beside it, and the cursor itself.

/** @import { Geometry, Pen } from "./types.d.ts" */

import { penOf, shortened } from "./canvas.js";
import { shades } from "./colours.js";
import { drawnHeat, heatStage } from "./heat_stage.js";
import { plainName } from "./layer_names.js";
import { currentMeta, state } from "./state.js";
import { T } from "./texts.js";

let labelledColumn = -1;

/**
 * @param {Pen} pen
 * @param {Geometry} geometry
 */
export function rowLabels(pen, geometry) {
  labelledColumn = state.column;
  pen.font = "11px system-ui, 'Noto Sans', 'Noto Sans CJK SC', sans-serif";
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  const every = Math.max(1, Math.ceil(13 / (geometry.height / geometry.num)));
  const { parameters } = currentMeta();
  const isNarrow = heatStage.left < 120; // the number alone has room
  const plain = state.rows.map((row) =>
    row.group || isNarrow ? row.label : plainName(parameters[row.columns[0]]),
  );
  const ending = plain.every((name, index) => state.rows[index].group || name.endsWith(".weight"))
    ? ".weight"
    : "";
  for (let index = 0; index < state.rows.length; index += every) {
    const row = state.rows[index];
    const name = ending && !row.group ? plain[index].slice(0, -ending.length) : plain[index];
    const y = heatStage.top + ((index + 0.5) * geometry.height) / geometry.num;
    pen.fillStyle = row.columns.includes(state.column) ? shades.text : shades.dim;
    pen.fillText(
      shortened(pen, row.group ? `${name} (${row.columns.length})` : name, heatStage.left - 10),
      heatStage.left - 5,
      y,
    );
  }
}

/**
 * Which end is which, where the rows are in the order of execution.
 *
 * @param {Pen} pen
 * @param {Geometry} geometry
 */
export function depthEnds(pen, geometry) {
  if (state.sort !== "depth" || state.rows.length < 2 || !currentMeta().layers.length) return;
  pen.font = "11px system-ui, 'Noto Sans', 'Noto Sans CJK SC', sans-serif";
  pen.fillStyle = shades.dim;
  pen.textAlign = "left";
  pen.textBaseline = "bottom";
  pen.fillText(`↑ ${T("output")}`, 2, heatStage.top - 1);
  pen.textBaseline = "top";
  pen.fillText(`↓ ${T("input")}`, 2, heatStage.top + geometry.height + 5);
}

// Only what the cursor changes: the picture stays.
export function moveHeatCursor() {
  const { geometry } = drawnHeat;
  if (!heatStage.root.isConnected || !geometry || geometry.num !== state.rows.length) return;
  if (labelledColumn !== state.column) {
    const pen = penOf(heatStage.canvas);
    pen.clearRect(0, 0, heatStage.left - 2, heatStage.top + geometry.height + 4);
    rowLabels(pen, geometry);
  }
  drawHeatCursor(geometry);
}

/** @param {Geometry} geometry */
export function drawHeatCursor(geometry) {
  const index = state.rows.findIndex((row) => row.columns.includes(state.column));
  const high = geometry.height / geometry.num;
  heatStage.cursor(
    index < 0
      ? null
      : [heatStage.top + index * high + Math.min(0, (high - 8) / 2), Math.max(8, high)],
  );
}
