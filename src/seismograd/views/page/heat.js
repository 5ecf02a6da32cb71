// Where and when? Every parameter at every step. A pixel shows the worst of all the rows and columns under it, so nothing is thinned away.

const LOWEST = -32769; // "not measured" while codes are compared: below all others

const heatStage = new Stage(() => T("heat_label", { parameters: state.rows.length, first: stepOf(state.start), last: stepOf(Math.max(state.start, state.stop - 1)) }), {
  column: (y) => listedAt(y)?.columns[0],
  aside: (y) => pressLabel(y),
  hint: heatHint,
});

const heatPanel = panel("heat", {
  title: "heat",
  sub: () => heatSub(),
  on: "meta window heat otherHeat rows cursor step",
  draw: drawHeat,
  table: heatTable,
  own: () => [
    choice("statistic", "statistic", state.meta.statistics.filter((name) => state.source.has(`heat/${name}`)).map((name) => [name, T(`statistic_${name}`)])),
    choice("which", "which", ["high", "low", "last"].filter((which) => state.source.has(`heat/grad_norm/${which}`)).map((which) => [which, T(`which_${which}`)])),
    state.other ? el("button", { type: "button", "data-name": "difference", "aria-pressed": String(state.difference), onclick: () => { state.difference = !state.difference; emit("rows"); } }, T("difference")) : null,
    el("button", { type: "button", "data-name": "out", title: T("zoom_out"), "aria-label": T("zoom_out"), onclick: () => zoom(4) }, "−"),
    el("button", { type: "button", "data-name": "in", title: T("zoom_in"), "aria-label": T("zoom_in"), onclick: () => zoom(0.25) }, "+"),
    el("button", { type: "button", "data-name": "all", onclick: () => setWindow(0, state.meta.rows) }, T("whole_run")),
  ],
});

function choice(name, key, options) {
  if (options.length < 2) return null;
  return el("select", { "data-name": name, "aria-label": T(`choose_${name}`), onchange: (event) => { state[key] = event.target.value; askWindow(); } },
    ...options.map(([value, label]) => el("option", { value, selected: state[key] === value }, label)));
}

function heatSub() {
  const listed = state.rows.reduce((sum, row) => sum + row.columns.length, 0);
  const heat = state.heat;
  const widest = heat && heat.starts.length ? Math.max(...subsample(heat.starts.map((start, index) => heat.stops[index] - start))) : 1;
  return sentences(
    state.difference && state.other ? T("heat_difference") : T("heat_what", { statistic: T(`statistic_${state.statistic}`) }),
    T("of_parameters", { listed, all: state.meta.parameters.length }),
    widest > 1 ? T(`column_shows_${state.which}`, { number: count(widest) }) : "",
  );
}

const subsample = (values) => (values.length > 5000 ? values.filter((_, index) => index % 10 === 0) : values);

const rank = (code) => (code === 32766 ? LOWEST : code);

// The smaller of two numbers; what is not a number is worse than either.
function worse(one, two) {
  const special = Math.abs(one) > 32000 || Math.abs(two) > 32000;
  return special ? (one > two ? one : two) : Math.min(one, two);
}

let geometry = null; // of the last drawing: which listed rows lie where

function layoutRows(height) {
  const num = state.rows.length;
  const bins = Math.max(1, Math.min(num, Math.floor(height)));
  return { num, bins, height, high: height / bins, of: (bin) => [Math.floor((bin * num) / bins), Math.floor(((bin + 1) * num) / bins)] };
}

function columnsUnder(heat, pixels) {
  const size = state.stop - state.start;
  const first = new Int32Array(pixels), last = new Int32Array(pixels);
  let column = 0;
  const num = heat.starts.length;
  for (let x = 0; x < pixels; x += 1) {
    const low = state.start + (x * size) / pixels, high = state.start + ((x + 1) * size) / pixels;
    while (column < num && heat.stops[column] <= low) column += 1;
    let end = column;
    while (end + 1 < num && heat.starts[end + 1] < high) end += 1;
    const there = column < num && heat.starts[column] < high;
    first[x] = there ? column : 0;
    last[x] = there ? end : -1;
  }
  return [first, last];
}

// The worst of some parameters in each column first, then of the columns under each pixel.
function reduceRow(heat, columns, first, last, line) {
  const { codes } = heat;
  const width = codes.shape[1], pixels = line.length, lowest = heat.which === "low";
  const merged = new Int32Array(width).fill(LOWEST);
  for (const parameter of columns) {
    const base = parameter * width;
    for (let column = 0; column < width; column += 1) {
      const code = codes[base + column];
      if (code === 32766) continue;
      if (lowest) merged[column] = merged[column] === LOWEST ? code : worse(merged[column], code);
      else if (code > merged[column]) merged[column] = code;
    }
  }
  for (let x = 0; x < pixels; x += 1) {
    let found = LOWEST;
    for (let column = first[x]; column <= last[x]; column += 1) {
      const code = merged[column];
      if (code !== LOWEST) found = found === LOWEST ? code : lowest ? worse(found, code) : Math.max(found, code);
    }
    line[x] = found;
  }
}

// The scale: from the smallest of all but half a per cent to the largest, which may stand out by three decades before it is cut.
function scaleOf(heat, difference) {
  const counts = new Uint32Array(64001);
  let total = 0, largest = -Infinity;
  const { codes } = heat;
  for (let place = 0; place < codes.length; place += 1) {
    const code = codes[place];
    if (code > 32000 || code < -32000) continue;
    counts[code + 32000] += 1;
    total += 1;
    if (code > largest) largest = code;
  }
  if (!total) return [-3000, 0];
  const at = (share) => {
    let code = 0;
    for (let seen = counts[0]; seen <= share * total && code < 64000; seen += counts[code]) code += 1;
    return code - 32000;
  };
  let low = at(0.005), high = Math.min(largest, at(0.995) + 3000);
  if (difference) { const far = Math.max(300, Math.min(3000, Math.max(-low, high))); return [-far, far]; }
  if (high - low < 1000) { const middle = (low + high) / 2; low = middle - 500; high = middle + 500; }
  return [low, high];
}

// The colour of every code there is, so that a pixel is one look-up.
function lookUp(low, high, colours) {
  const shown = Int32Array.from({ length: 256 }, (_, index) => packed(along(colours, index / 255)));
  const found = new Int32Array(65536);
  const scale = 255 / (high - low);
  for (let code = -32000; code <= 32000; code += 1) {
    found[code + 32768] = shown[code <= low ? 0 : code >= high ? 255 : Math.round((code - low) * scale)];
  }
  return found;
}

// Not by colour alone: hatched, dotted, striped.
function special(code, x, y, paint) {
  if (code === 32767) return (x + y) % 6 < 2 ? paint.nanDark : paint.nan;
  if (code === -32767) return x % 6 === 2 && y % 6 === 2 ? paint.dot : paint.zero;
  if (code === -32768) return y % 4 === 1 ? paint.absentLine : paint.absent;
  return 0;
}

function paints() {
  const of = (name) => packed(rgb(shades[name]));
  return { nan: of("nan"), nanDark: of("nan-dark"), zero: of("zero"), dot: of("dim"), absent: of("absent"), absentLine: of("absent-line") };
}

function differenceHeat() {
  const { heat, otherHeat, otherMeta } = state;
  if (!otherHeat || otherHeat.statistic !== heat.statistic) return null;
  const places = new Map(otherMeta.parameters.map((each, column) => [each.name, column]));
  const width = heat.starts.length;
  const under = columnsOver(otherHeat, heat);
  const codes = new Int16Array(heat.codes.length).fill(32766);
  const line = new Int32Array(width);
  state.meta.parameters.forEach((each, column) => {
    const there = places.get(each.name);
    if (there === undefined) return;
    reduceRow(otherHeat, [there], under[0], under[1], line);
    for (let x = 0; x < width; x += 1) {
      const mine = rank(heat.codes[column * width + x]), its = line[x];
      const numbers = Math.abs(mine) <= 32000 && Math.abs(its) <= 32000;
      codes[column * width + x] = numbers ? clamp(mine - its, -32000, 32000) : mine === 32767 || its === 32767 ? 32767 : 32766;
    }
  });
  codes.shape = heat.codes.shape;
  return { ...heat, codes, which: "high" };
}

// Which columns of one heat map lie over those of another.
function columnsOver(heat, base) {
  const first = new Int32Array(base.starts.length), last = new Int32Array(base.starts.length).fill(-1);
  let column = 0;
  for (let x = 0; x < base.starts.length; x += 1) {
    while (column < heat.starts.length && heat.stops[column] <= base.starts[x]) column += 1;
    let end = column;
    while (end + 1 < heat.starts.length && heat.starts[end + 1] < base.stops[x]) end += 1;
    if (column < heat.starts.length && heat.starts[column] < base.stops[x]) { first[x] = column; last[x] = end; }
  }
  return [first, last];
}

let drawnHeat = null;
let lastDifference = { key: [], heat: null };

function cachedDifference() {
  const key = [state.heat, state.otherHeat];
  if (key.some((each, index) => each !== lastDifference.key[index])) lastDifference = { key, heat: differenceHeat() };
  return lastDifference.heat;
}

function drawHeat(body) {
  if (!state.meta.rows || !state.rows.length) return nothing(body, T(state.meta.rows ? "no_match" : "no_steps"));
  const narrow = body.clientWidth < 500;
  heatStage.left = narrow ? 96 : 170;
  heatStage.right = 64;
  heatStage.top = 14;
  const rows = state.rows.length;
  const plot = Math.round(Math.min(560, rows * clamp(320 / rows, 14, 48)));
  const pen = heatStage.begin(body, plot + heatStage.top + heatStage.bottom);
  geometry = layoutRows(plot);
  const difference = state.difference && state.other;
  const heat = state.heat && (difference ? cachedDifference() : state.heat);
  if (heat && heat.codes.shape[0] === state.meta.parameters.length) paintHeat(pen, heat, difference);
  else { pen.fillStyle = shades.dim; pen.fillText(T("loading"), heatStage.left + 10, 40); }
  rowLabels(pen);
  heatStage.axis(pen);
  drawHeatCursor();
  heatLegend(body);
}

const scales = new WeakMap(); // by heat map
let painted = { key: [] }; // what was painted last: moving the cursor does not change it

function paintHeat(pen, heat, difference) {
  const ratio = window.devicePixelRatio || 1;
  const wide = Math.max(1, Math.round(heatStage.inner * ratio)), high = Math.max(1, Math.round(geometry.height * ratio));
  const key = [state.heat, difference ? state.otherHeat : null, state.rows, state.start, state.stop, wide, high, look.theme];
  if (key.some((each, index) => each !== painted.key[index])) painted = { key, ...paint(heat, difference, wide, high) };
  const { image, marks, low, top } = painted;
  pen.putImageData(image, Math.round(heatStage.left * ratio), Math.round(heatStage.top * ratio));
  for (let x = 0; x < wide; x += 1) {
    if (marks[x] && (x === 0 || !marks[x - 1] || x % 12 === 0)) triangle(pen, heatStage.left + x / ratio, heatStage.top - 6, 5, shades.nan);
  }
  pen.strokeStyle = shades.line;
  pen.strokeRect(heatStage.left - 0.5, heatStage.top - 0.5, heatStage.inner + 1, geometry.height + 1);
  colourBar(pen, low, top, difference);
  drawnHeat = { heat, low, top, difference };
  heatStage.canvas.dataset.shows = heat.window;
}

function paint(heat, difference, wide, high) {
  if (!scales.has(heat)) scales.set(heat, scaleOf(heat, difference));
  const [low, top] = scales.get(heat);
  const colours = lookUp(low, top, difference ? DIVERGING : VIRIDIS);
  const image = new ImageData(wide, high);
  const pixels = new Int32Array(image.data.buffer);
  const [first, last] = columnsUnder(heat, wide);
  const line = new Int32Array(wide);
  const marks = new Uint8Array(wide);
  const patterns = paints();
  for (let bin = 0; bin < geometry.bins; bin += 1) {
    const [from, to] = geometry.of(bin);
    reduceRow(heat, state.rows.slice(from, to).flatMap((row) => row.columns), first, last, line);
    const start = Math.round((bin * high) / geometry.bins), end = Math.round(((bin + 1) * high) / geometry.bins);
    for (let x = 0; x < wide; x += 1) {
      const code = line[x];
      if (code === LOWEST) continue;
      if (code >= -32000 && code <= 32000) {
        const colour = colours[code + 32768];
        for (let at = start * wide + x; at < end * wide; at += wide) pixels[at] = colour;
        continue;
      }
      if (code === 32767) marks[x] = 1;
      for (let y = start; y < end; y += 1) pixels[y * wide + x] = special(code, x, y, patterns);
    }
  }
  return { image, marks, low, top };
}

function colourBar(pen, low, top, difference) {
  const x = heatStage.left + heatStage.inner + 8;
  for (let y = 0; y < geometry.height; y += 1) {
    pen.fillStyle = `rgb(${along(difference ? DIVERGING : VIRIDIS, 1 - y / geometry.height).join(",")})`;
    pen.fillRect(x, heatStage.top + y, 10, 1.5);
  }
  pen.fillStyle = shades.dim;
  pen.textAlign = "left";
  pen.textBaseline = "middle";
  for (const decade of ticks(low, top, geometry.height / 40)) {
    const y = heatStage.top + geometry.height * (1 - (decade - low) / (top - low));
    const text = difference ? `×${fmt(10 ** (decade / 1000), 2)}` : fmt(10 ** (decade / 1000), 2);
    pen.fillText(text, x + 13, clamp(y, heatStage.top + 6, heatStage.top + geometry.height - 6));
  }
}

function rowLabels(pen) {
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

function codeText(code, difference) {
  if (code === 32767) return T("state_4");
  if (code === -32767) return T("state_2");
  if (code === -32768) return T("state_1");
  if (code === LOWEST || code === 32766) return T("state_0");
  return `${difference ? "×" : ""}${fmt(10 ** (code / 1000), 3)}`;
}

function heatHint(row, y) {
  const listed = listedAt(y);
  if (!listed || !drawnHeat) return null;
  const { heat, difference } = drawnHeat;
  const column = heat.starts.findIndex((start, index) => row >= start && row < heat.stops[index]);
  if (column < 0) return null;
  const line = new Int32Array(1);
  reduceRow(heat, listed.columns, Int32Array.of(column), Int32Array.of(column), line);
  const first = stepOf(heat.starts[column]), last = stepOf(heat.stops[column] - 1);
  return `${listed.label}\n${first === last ? T("step", { step: first }) : T("steps", { first, last })}\n${codeText(line[0], difference)}`;
}

function drawHeatCursor() {
  const index = state.rows.findIndex((row) => row.columns.includes(state.column));
  const high = geometry.height / geometry.num;
  heatStage.cursor(index < 0 ? [0, 0] : [heatStage.top + index * high + Math.min(0, (high - 8) / 2), Math.max(8, high)]);
}

function heatLegend(body) {
  let legend = body.querySelector(".legend");
  if (!legend) { legend = el("div", { class: "legend" }); body.append(legend); }
  const patch = (code) => {
    const canvas = el("canvas", { width: "18", height: "12", "aria-hidden": "true" });
    const pen = canvas.getContext("2d");
    const image = new ImageData(18, 12);
    const pixels = new Int32Array(image.data.buffer);
    const paint = paints();
    for (let at = 0; at < pixels.length; at += 1) pixels[at] = special(code, at % 18, Math.floor(at / 18), paint);
    pen.putImageData(image, 0, 0);
    return canvas;
  };
  legend.replaceChildren(
    el("span", {}, patch(32767), T("state_4")), el("span", {}, patch(-32767), T("state_2")), el("span", {}, patch(-32768), T("state_1")),
    el("span", {}, T("legend_blank")), el("span", {}, T("legend_scale")));
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
