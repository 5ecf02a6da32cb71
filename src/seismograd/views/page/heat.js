// Where and when? Every parameter at every step. A pixel shows the worst of all the rows and columns under it, so nothing is thinned away.

const heatStage = new Stage(() => T("heat_label", { parameters: state.rows.length, first: stepOf(state.start), last: stepOf(Math.max(state.start, state.stop - 1)) }), {
  column: (y) => listedAt(y)?.columns[0],
  aside: (y) => pressLabel(y),
  hint: heatHint,
});

const heatPanel = panel("heat", {
  title: "heat",
  sub: () => heatSub(),
  on: "meta window heat otherHeat rows scale",
  draw: drawHeat,
  table: heatTable,
  own: () => [
    choice("statistic", "statistic", state.meta.statistics.filter((name) => state.source.has(`heat/${name}`)).map((name) => [name, T(`statistic_${name}`)])),
    choice("which", "which", ["high", "low", "last"].filter((which) => state.source.has(`heat/grad_norm/${which}`)).map((which) => [which, T(`which_${which}`)])),
    choice("scale", "scale", state.other && state.difference ? [] : ["all", "row"].map((scale) => [scale, T(`scale_${scale}`)]), () => emit("scale")),
    state.other ? el("button", { type: "button", "data-name": "difference", "aria-pressed": String(state.difference), onclick: () => { state.difference = !state.difference; emit("rows"); } }, T("difference")) : null,
    el("button", { type: "button", "data-name": "out", title: T("zoom_out"), "aria-label": T("zoom_out"), onclick: () => zoom(4) }, "−"),
    el("button", { type: "button", "data-name": "in", title: T("zoom_in"), "aria-label": T("zoom_in"), onclick: () => zoom(0.25) }, "+"),
    el("button", { type: "button", "data-name": "all", onclick: () => setWindow(0, state.meta.rows) }, T("whole_run")),
  ],
});

on("cursor", () => moveHeatCursor());
on("step", () => { if (heatPanel.asTable) heatPanel.refresh(); });

function choice(name, key, options, then = askWindow) {
  if (options.length < 2) return null;
  return el("select", { "data-name": name, "aria-label": T(`choose_${name}`), onchange: (event) => { state[key] = event.target.value; then(); } },
    ...options.map(([value, label]) => el("option", { value, selected: state[key] === value }, label)));
}

function heatSub() {
  const listed = state.rows.reduce((sum, row) => sum + row.columns.length, 0);
  const heat = state.heat;
  const widest = heat ? heat.starts.reduce((most, start, index) => Math.max(most, heat.stops[index] - start), 1) : 1;
  return sentences(
    isDifference() ? T("heat_difference") : T(state.scale === "row" ? "heat_relative" : "heat_what", { statistic: T(`statistic_${state.statistic}`) }),
    T("of_parameters", { listed, all: state.meta.parameters.length }),
    widest > 1 ? T(`column_shows_${state.which}`, { number: count(widest) }) : "",
  );
}

let geometry = null; // of the last drawing: which listed rows lie where

function layoutRows(height) {
  const num = state.rows.length;
  const bins = Math.max(1, Math.min(num, Math.floor(height * (window.devicePixelRatio || 1))));
  return { num, bins, height, high: height / bins, of: (bin) => [Math.floor((bin * num) / bins), Math.floor(((bin + 1) * num) / bins)] };
}

let drawnHeat = null;
const derived = new WeakMap(); // by heat map: the other one that it was compared with, and what came of that; or itself relative
const scales = new WeakMap(); // by heat map

const isDifference = () => Boolean(state.difference && state.other);

// What is drawn: the heat map, or that divided by another one, or by the medians of its rows.
function shownHeat() {
  const { heat, otherHeat } = state;
  if (!heat || heat.codes.shape[0] !== state.meta.parameters.length) return null;
  if (!isDifference() && state.scale !== "row") return heat;
  const other = isDifference() ? otherHeat : heat;
  if (!other || other.statistic !== heat.statistic) return null;
  if (derived.get(heat)?.other !== other) derived.set(heat, { other, made: isDifference() ? differenceHeat(heat, other) : relativeHeat(heat) });
  return derived.get(heat).made;
}

function drawHeat(body) {
  if (!state.meta.rows || !state.rows.length) return nothing(body, T(state.meta.rows ? "no_match" : "no_steps"));
  const narrow = body.room < 500;
  heatStage.left = narrow ? 96 : 170;
  heatStage.right = 64;
  heatStage.top = 14;
  const rows = state.rows.length;
  const plot = Math.round(Math.min(560, rows * clamp(320 / rows, 14, 120)));
  const pen = heatStage.begin(body, plot + heatStage.top + heatStage.bottom);
  geometry = layoutRows(plot);
  const heat = shownHeat();
  if (heat) paintHeat(pen, heat);
  else { pen.fillStyle = shades.dim; pen.fillText(T("loading"), heatStage.left + 10, 40); }
  rowLabels(pen);
  heatStage.axis(pen);
  drawHeatCursor();
  heatLegend(body, isDifference() || state.scale === "row");
  if (heat) painted("heat");
}

const reduced = { key: [], codes: null }; // what lies under the pixels: another scale or theme only colours it anew
const coloured = { key: [], image: null, marks: null }; // the picture of it: moving the cursor leaves that

function paintHeat(pen, heat) {
  const ratio = window.devicePixelRatio || 1;
  const wide = Math.max(1, Math.round(heatStage.inner * ratio)), high = Math.max(1, Math.round(geometry.height * ratio));
  const isRelative = isDifference() || state.scale === "row";
  if (!scales.has(heat)) scales.set(heat, scaleOf(heat, isRelative));
  const [low, top] = scales.get(heat);
  const { bins } = geometry;
  if (renewed(reduced, [heat, state.rows, state.start, state.stop, wide, bins])) {
    reduced.codes = reduceHeat(heat, wide, bins, (bin) => state.rows.slice(...geometry.of(bin)));
  }
  const begun = performance.now();
  const isNew = renewed(coloured, [reduced.codes, high, look.theme]);
  if (isNew) Object.assign(coloured, colourCodes(reduced.codes, wide, high, bins, [low, top], isRelative ? DIVERGING : VIRIDIS, coloured.image));
  pen.putImageData(coloured.image, Math.round(heatStage.left * ratio), Math.round(heatStage.top * ratio));
  if (isNew) timed("colours", begun);
  for (let x = 0; x < wide; x += 1) {
    if (coloured.marks[x] && (x === 0 || !coloured.marks[x - 1] || x % 12 === 0)) triangle(pen, heatStage.left + x / ratio, heatStage.top - 6, 5, shades.nan);
  }
  pen.strokeStyle = shades.line;
  pen.strokeRect(heatStage.left - 0.5, heatStage.top - 0.5, heatStage.inner + 1, geometry.height + 1);
  colourBar(pen, low, top, isRelative);
  drawnHeat = { heat, isRelative };
  heatStage.canvas.dataset.shows = heat.window;
}

// Whether what is kept was made from other things than these; they are noted.
function renewed(kept, key) {
  if (key.length === kept.key.length && key.every((each, index) => each === kept.key[index])) return false;
  kept.key = key;
  return true;
}

function colourBar(pen, low, top, isRelative) {
  const x = heatStage.left + heatStage.inner + 8;
  for (let y = 0; y < geometry.height; y += 1) {
    pen.fillStyle = `rgb(${along(isRelative ? DIVERGING : VIRIDIS, 1 - y / geometry.height).join(",")})`;
    pen.fillRect(x, heatStage.top + y, 10, 1.5);
  }
  pen.fillStyle = shades.dim;
  pen.textAlign = "left";
  pen.textBaseline = "middle";
  for (const decade of ticks(low, top, geometry.height / 40)) {
    const y = heatStage.top + geometry.height * (1 - (decade - low) / (top - low));
    const text = isRelative ? `×${fmt(10 ** (decade / 1000), 2)}` : fmt(10 ** (decade / 1000), 2);
    pen.fillText(text, x + 13, clamp(y, heatStage.top + 6, heatStage.top + geometry.height - 6));
  }
}

let labelledColumn = -1;

function rowLabels(pen) {
  labelledColumn = state.column;
  pen.font = "11px system-ui, 'Noto Sans', 'Noto Sans CJK SC', sans-serif";
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  const every = Math.max(1, Math.ceil(13 / (geometry.height / geometry.num)));
  const ending = state.rows.every((row) => row.group || row.label.endsWith(".weight")) ? ".weight" : "";
  for (let index = 0; index < state.rows.length; index += every) {
    const row = state.rows[index];
    const name = ending && !row.group ? row.label.slice(0, -ending.length) : row.label;
    const y = heatStage.top + ((index + 0.5) * geometry.height) / geometry.num;
    pen.fillStyle = row.columns.includes(state.column) ? shades.text : shades.dim;
    pen.fillText(shortened(pen, row.group ? `${name} (${row.columns.length})` : name, heatStage.left - 10), heatStage.left - 5, y);
  }
}

// The end of a name tells more than its beginning.
function shortened(pen, text, room) {
  if (pen.measureText(text).width <= room) return text;
  let kept = text.length;
  while (kept > 1 && pen.measureText(`…${text.slice(-kept)}`).width > room) kept -= 1;
  return `…${text.slice(-kept)}`;
}

function listedAt(y) {
  if (!geometry) return undefined;
  const index = Math.floor(((y - heatStage.top) / geometry.height) * geometry.num);
  return state.rows[clamp(index, 0, state.rows.length - 1)];
}

function pressLabel(y) {
  const row = listedAt(y);
  if (!row) return;
  if (row.group) { state.filter = `${row.label}.*`; state.group = 0; relist(); } else setCursor(state.row, row.columns[0]);
}

function codeText(code, isRelative) {
  if (code === 32767) return T("state_4");
  if (code === -32767) return T("state_2");
  if (code === -32768) return T("state_1");
  if (code === LOWEST || code === 32766) return T("state_0");
  return `${isRelative ? "×" : ""}${fmt(10 ** (code / 1000), 3)}`;
}

function heatHint(row, y) {
  const listed = listedAt(y);
  if (!listed || !drawnHeat) return null;
  const { heat, isRelative } = drawnHeat;
  const column = heat.starts.findIndex((start, index) => row >= start && row < heat.stops[index]);
  if (column < 0) return null;
  const line = new Int32Array(1);
  reduceRow(heat, listed.columns, Int32Array.of(column), Int32Array.of(column), line);
  const first = stepOf(heat.starts[column]), last = stepOf(heat.stops[column] - 1);
  return `${listed.label}\n${first === last ? T("step", { step: first }) : T("steps", { first, last })}\n${codeText(line[0], isRelative)}`;
}

// Only what the cursor changes: the picture stays.
function moveHeatCursor() {
  if (heatPanel.asTable || !drawnHeat || !heatStage.root.isConnected || !geometry || geometry.num !== state.rows.length) return;
  if (labelledColumn !== state.column) {
    const pen = heatStage.canvas.getContext("2d");
    pen.clearRect(0, 0, heatStage.left - 2, heatStage.top + geometry.height + 4);
    rowLabels(pen);
  }
  drawHeatCursor();
}

function drawHeatCursor() {
  const index = state.rows.findIndex((row) => row.columns.includes(state.column));
  const high = geometry.height / geometry.num;
  heatStage.cursor(index < 0 ? null : [heatStage.top + index * high + Math.min(0, (high - 8) / 2), Math.max(8, high)]);
}

const patches = new Map([32767, -32767, -32768].map((code) => [code, el("canvas", { width: "18", height: "12", "aria-hidden": "true" })]));
const legend = el("div", { class: "legend" });
const legendOf = { key: [] };

function heatLegend(body, isRelative) {
  if (legend.parentNode !== body) body.append(legend);
  if (!renewed(legendOf, [isRelative, look.theme, look.lang])) return;
  const paint = paints();
  for (const [code, canvas] of patches) {
    const image = new ImageData(18, 12);
    const pixels = new Int32Array(image.data.buffer);
    for (let at = 0; at < pixels.length; at += 1) pixels[at] = special(code, at % 18, Math.floor(at / 18), paint);
    canvas.getContext("2d").putImageData(image, 0, 0);
  }
  legend.replaceChildren(
    el("span", {}, patches.get(32767), T("state_4")), el("span", {}, patches.get(-32767), T("state_2")), el("span", {}, patches.get(-32768), T("state_1")),
    el("span", {}, T("legend_blank")), el("span", {}, T(isRelative ? "legend_relative" : "legend_scale")));
}

function heatTable() {
  const heat = state.heat;
  const head = ["parameter", "shape", "state", "norm", "lowest_shown", "highest_shown", "nonfinite_columns", "zero_columns", "absent_columns"].map((key) => T(`column_${key}`));
  const rows = state.rows.flatMap((row) => row.columns).map((column) => {
    const each = state.meta.parameters[column];
    let low = Infinity, high = -Infinity, bad = 0, zero = 0, absent = 0;
    if (heat) {
      const width = heat.codes.shape[1];
      for (let at = 0; at < width; at += 1) {
        if (heat.stops[at] <= state.start || heat.starts[at] >= state.stop) continue;
        const code = heat.codes[column * width + at];
        if (code === 32767) bad += 1; else if (code === -32767) zero += 1; else if (code === -32768) absent += 1;
        else if (code !== 32766) { low = Math.min(low, code); high = Math.max(high, code); }
      }
    }
    const step = state.step;
    return [each.name, `[${each.shape.join(", ")}]`, step ? T(`state_${step.states[column]}`) : "", step && step.states[column] > 1 ? step.grad_norm[column] : "–",
      low === Infinity ? "–" : 10 ** (low / 1000), high === -Infinity ? "–" : 10 ** (high / 1000), bad, zero, absent];
  });
  return { head, rows };
}
