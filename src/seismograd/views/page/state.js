// What is looked at: one cursor (row and parameter) and one stretch of rows for all panels, and which parameters are listed.

const state = {
  source: null, meta: null, other: null, otherMeta: null,
  row: 0, column: -1, start: 0, stop: 0, follow: true,
  filter: "", sort: "depth", group: 0, kind: "auto", statistic: "grad_norm", which: "high", scale: "all", difference: false,
  heat: null, otherHeat: null, scalars: null, otherScalars: null, step: null, line: null, otherLine: null, histogram: null, lanes: null,
  rows: [],
};

const listeners = new Map();
function on(names, call) {
  for (const name of names.split(" ")) listeners.set(name, [...(listeners.get(name) ?? []), call]);
}
function emit(name) {
  for (const call of listeners.get(name) ?? []) call();
}

function stepOf(row) {
  const steps = state.meta.steps;
  if (!steps.rows.length) return steps.first + Math.round(row);
  let low = 0;
  while (low + 1 < steps.rows.length && steps.rows[low + 1][0] <= row) low += 1;
  const [first, step] = steps.rows[low];
  const next = steps.rows[Math.min(low + 1, steps.rows.length - 1)];
  return next[0] === first ? step : Math.round(step + ((row - first) * (next[1] - step)) / (next[0] - first));
}

function rowOf(step) {
  const { steps, rows } = state.meta;
  if (!steps.rows.length) return clamp(step - steps.first, 0, rows - 1);
  let low = 0;
  while (low + 1 < steps.rows.length && steps.rows[low + 1][1] <= step) low += 1;
  const [row, first] = steps.rows[low];
  const [next, last] = steps.rows[Math.min(low + 1, steps.rows.length - 1)];
  return next === row ? row : Math.floor(row + ((step - first) * (next - row)) / (last - first));
}

const clamp = (value, low, high) => Math.max(low, Math.min(high, value));

function setCursor(row, column) {
  if (!state.meta || !state.meta.rows) return;
  state.row = clamp(Math.round(row), 0, state.meta.rows - 1);
  state.follow = state.row === state.meta.rows - 1;
  const isOther = column !== undefined && column >= 0 && column !== state.column;
  if (isOther) state.column = column;
  if (state.row < state.start || state.row >= state.stop) pan(state.row);
  emit("cursor");
  if (isOther) emit("column");
}

function setWindow(start, stop) {
  const rows = state.meta.rows;
  const size = clamp(Math.round(stop - start), Math.min(8, rows), rows);
  state.start = clamp(Math.round(start), 0, rows - size);
  state.stop = state.start + size;
  document.body.dataset.window = `${state.start}-${state.stop}`;
  emit("window");
}

function pan(row) {
  const size = state.stop - state.start;
  setWindow(row - size / 2, row + size / 2);
}

function zoom(factor, row = state.row) {
  const size = (state.stop - state.start) * factor;
  const share = (row - state.start) / Math.max(1, state.stop - state.start);
  setWindow(row - size * share, row + size * (1 - share));
}

// Parameters: filtered, sorted, grouped. A listed row is one parameter or a group of them.

function matcher(text) {
  text = text.trim();
  if (!text) return () => true;
  if (text.startsWith("/")) {
    try {
      const found = new RegExp(text.slice(1).replace(/\/$/, ""), "i");
      return (name) => found.test(name);
    } catch { return () => false; }
  }
  const words = text.split(/\s+/).map(glob);
  return (name) => words.some((word) => word.test(name));
}

// A word of a filter: a glob where it has `*`, `?` or `[…]`, else a part of the name.
function glob(word) {
  const isGlob = /[*?]|\[[^\]]+\]/.test(word);
  const parts = word.replace(/\[!?[^\]]+\]|[^]/g, (part) => {
    if (isGlob && part.length > 1) return part.replace("[!", "[^").replace(/\\/g, "\\\\");
    if (isGlob && part === "*") return ".*";
    if (isGlob && part === "?") return ".";
    return part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  });
  try {
    return new RegExp(isGlob ? `^${parts}$` : parts, "i");
  } catch { return /^\b$/; }
}

const isMatrix = (parameter) => parameter.shape.filter((size) => size > 1).length >= 2;

function listRows() {
  const meta = state.meta;
  const matches = matcher(state.filter);
  const matrices = meta.parameters.some(isMatrix);
  const kinds = { auto: (each) => !matrices || meta.parameters.length <= 24 || isMatrix(each), matrix: isMatrix, vector: (each) => !isMatrix(each), all: () => true };
  const kind = state.filter.trim() && state.kind === "auto" ? kinds.all : kinds[state.kind];
  let chosen = meta.parameters.map((each, column) => ({ each, column })).filter(({ each }) => kind(each) && [each.name, ...each.aliases].some(matches));
  chosen.sort((one, two) => order(one, two));
  if (state.group) {
    const groups = new Map();
    for (const { each, column } of chosen) {
      const parts = each.name.split(".").slice(0, -1);
      const label = parts.slice(0, state.group).join(".") || each.name;
      if (!groups.has(label)) groups.set(label, []);
      groups.get(label).push(column);
    }
    state.rows = [...groups].map(([label, columns]) => ({ label, columns, group: true }));
  } else {
    state.rows = chosen.map(({ each, column }) => ({ label: each.name, columns: [column], group: false }));
  }
  if (state.column < 0 || !state.rows.some((row) => row.columns.includes(state.column))) {
    state.column = state.rows.length ? state.rows[0].columns[0] : state.column;
  }
}

function order(one, two) {
  if (state.sort === "name") return one.each.name.localeCompare(two.each.name, "en", { numeric: true });
  if (state.sort === "norm") return (normAtCursor(two.column) - normAtCursor(one.column)) || one.column - two.column;
  if (state.sort === "trouble") return (trouble(two.column) - trouble(one.column)) || one.column - two.column;
  const far = 1e9; // the output is on top, as in the picture of a network that one reads upwards
  return (two.each.depth ?? -far) - (one.each.depth ?? -far) || one.column - two.column;
}

function normAtCursor(column) {
  const value = state.step?.grad_norm?.[column];
  return Number.isNaN(value) || value === undefined ? -1 : value;
}

function trouble(column) {
  const { nonfinite, zero, absent } = state.meta.codes;
  let points = state.meta.findings.some((finding) => finding.columns.includes(column)) ? 1e6 : 0;
  if (!state.heat) return points;
  const width = state.heat.codes.shape[1];
  for (const code of state.heat.codes.subarray(column * width, (column + 1) * width)) {
    points += code === nonfinite ? 1e3 : code === zero ? 10 : code === absent ? 1 : 0;
  }
  return points;
}

// Asking, at most one question of each kind under way; an answer to an old question is dropped.

const asked = {};
async function ask(what, question) {
  const turn = (asked[what] = (asked[what] ?? 0) + 1);
  let answer = null;
  try {
    answer = await question();
    if (turn === asked[what]) connected(true);
  } catch (error) {
    if (turn === asked[what]) connected(false, error);
    return;
  }
  if (turn !== asked[what]) return;
  state[what] = answer;
  emit(what);
}

const widthOf = () => Math.max(200, Math.min(2000, Math.round(window.innerWidth * 0.75)));

// The heat map first: while it is not there, nothing else takes the server's time.
function askWindow() {
  if (!state.meta.rows) return;
  const { source, other, start, stop } = state;
  const first = ask("heat", async () => ({ ...(await source.heat(start, stop, widthOf(), state.statistic, state.which)), window: `${start}-${stop}` }));
  const rest = () => {
    ask("scalars", () => source.scalars(start, stop, widthOf()));
    if (other) {
      ask("otherHeat", () => other.heat(start, stop, widthOf(), state.statistic, state.which));
      ask("otherScalars", () => other.scalars(start, stop, widthOf()));
    }
    askParameter();
  };
  if (state.heat) rest();
  else first.then(afterFrame).then(() => { askStep(); rest(); });
}

function askParameter() {
  const { source, other, column, start, stop } = state;
  if (column < 0 || !state.meta.rows) return;
  ask("line", () => source.line(column, start, stop, widthOf()));
  ask("histogram", () => source.histogram(column, start, stop, 300));
  const name = state.meta.parameters[column].name;
  const there = state.otherMeta ? state.otherMeta.parameters.findIndex((each) => each.name === name) : -1;
  if (other && there >= 0) ask("otherLine", () => other.line(there, start, stop, widthOf()));
}

function askStep() {
  if (!state.meta.rows) return;
  ask("step", () => state.source.step(state.row));
  ask("lanes", () => state.source.lanes(state.row));
}

const askWindowSoon = later(askWindow, 60);
const askStepSoon = later(askStep, 40);
let askedColumn = -1;
on("window", () => askWindowSoon());
on("cursor", () => {
  askStepSoon();
  if (state.column !== askedColumn) { askedColumn = state.column; askParameter(); }
});
