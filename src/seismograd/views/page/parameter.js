// One parameter: what it is, its numbers at the cursor, its course; and single scalars of it that were recorded.

const parameterLines = new Lines(() => T("parameter_label", { parameter: chosenName() }));
const elementLines = new Lines(() => T("element_label"));
const facts = el("dl", { class: "facts" });
const parameterKey = el("div");
const parameterPlots = el("div", { class: "split" }, el("div"), el("div"));

const parameterPanel = panel("parameter", {
  title: "parameter",
  sub: () => chosenName(),
  on: "meta window column step line otherLine elementLine",
  draw: drawParameter,
  table: () => {
    const { line } = state;
    if (!line || !line.starts) return { head: [T("column_step")], rows: [] };
    const names = ["grad_norm", "applied_norm", "update_ratio"].filter((name) => line[`${name}.high`]);
    const width = line.starts.length;
    const dashed = (value) => (Number.isNaN(value) ? "–" : value);
    return {
      head: [T("column_first_step"), T("column_last_step"), ...names.flatMap((name) => [`${T(`statistic_${name}`)} (${T("which_low")})`, `${T(`statistic_${name}`)} (${T("which_high")})`]), ...[0, 1, 2, 3, 4].map((each) => T(`state_${each}`))],
      rows: Array.from(line.starts, (start, index) => [stepOf(start), stepOf(line.stops[index] - 1), ...names.flatMap((name) => [dashed(line[`${name}.low`][index]), dashed(line[`${name}.high`][index])]),
        ...[0, 1, 2, 3, 4].map((each) => line.counts[each * width + index] || "")]),
    };
  },
});
on("cursor", () => { parameterLines.move(); elementLines.move(); });
on("window cursor meta", later(askElement, 60));

function elementOf(column) {
  const name = state.meta.parameters[column]?.name;
  return name === undefined ? -1 : state.meta.elements.findIndex((each) => each.startsWith(`${name}[`));
}

function askElement() {
  const index = state.meta ? elementOf(state.column) : -1;
  if (index < 0 || !state.meta.rows) { state.elementLine = null; return; }
  ask("elementLine", () => state.source.element(index, state.start, state.stop, widthOf()));
}

function drawParameter(body) {
  if (!state.meta.rows || state.column < 0) return nothing(body, T("no_steps"));
  if (facts.parentNode !== body) body.replaceChildren(facts, parameterPlots, parameterKey);
  facts.replaceChildren(...parameterFacts().flatMap(([name, value, style]) => [el("dt", {}, name), el("dd", { class: style }, value)]));
  const { line } = state;
  if (!line || !line.starts) {
    if (line === null && !state.source.live) parameterKey.replaceChildren(el("p", { class: "dim" }, T("not_in_report")));
    return;
  }
  const cut = inWindow(line, []);
  const lines = [
    { label: T("statistic_grad_norm"), values: cut.take(line["grad_norm.high"] ?? []), colour: shades.before },
    { label: T("statistic_grad_norm"), values: cut.take(line["grad_norm.low"] ?? []), colour: shades.before, width: 0.5 },
  ];
  if (line["applied_norm.high"]) lines.push({ label: T("statistic_applied_norm"), values: cut.take(line["applied_norm.high"]), colour: shades.after, dash: [6, 4] });
  if (line["update_ratio.high"]) lines.push({ label: T("statistic_update_ratio"), values: bridged(cut.take(line["update_ratio.high"])), colour: shades.lr, dash: [3, 3] });
  if (state.other && state.otherLine?.starts) lines.push({ label: otherName(), values: besides(state.otherLine, "grad_norm.high", cut), colour: shades.other, dash: [8, 2] });
  const width = line.starts.length;
  const bad = cut.rows.filter((_, index) => line.counts[4 * width + cut.keep[index]] > 0);
  const [above, below] = parameterPlots.children;
  parameterLines.draw(above, 190, cut.rows, lines, { log: { y: true }, pairs: [[0, 1]], marks: bad });
  const index = elementOf(state.column);
  below.hidden = index < 0 || !state.elementLine;
  if (!below.hidden) {
    const element = inWindow(state.elementLine, []);
    const values = (name) => element.take(state.elementLine[name]);
    const high = values("high"), low = values("low"), nonfinite = values("nonfinite");
    elementLines.draw(below, 120, element.rows, [
      { label: state.meta.elements[index], values: high, colour: shades.accent }, { label: state.meta.elements[index], values: low, colour: shades.accent, width: 0.5 },
    ], { pairs: [[0, 1]], marks: element.rows.filter((_, at) => nonfinite[at]) });
  }
  parameterKey.replaceChildren(colourKey([
    [T("statistic_grad_norm"), shades.before], line["applied_norm.high"] ? [T("statistic_applied_norm"), shades.after, [6, 4]] : null,
    line["update_ratio.high"] ? [T("statistic_update_ratio"), shades.lr, [3, 3]] : null, below.hidden ? null : [state.meta.elements[index], shades.accent],
    state.other ? [otherName(), shades.other, [8, 2]] : null, [T("state_4"), shades.nan, [], true],
  ]));
}

// The update is known at some steps only: the line goes from one to the next, but not far.
function bridged(values) {
  const most = 40;
  let last = -1;
  return values.map((value, index) => {
    if (!Number.isNaN(value)) { last = index; return value; }
    return last >= 0 && index - last < most ? values[last] : value;
  });
}

function besides(line, name, cut) {
  let at = 0;
  return cut.rows.map((row) => {
    while (at + 1 < line.starts.length && line.stops[at] <= row) at += 1;
    return line.starts[at] <= row + 1 && row < line.stops[at] ? line[name]?.[at] ?? NaN : NaN;
  });
}

function parameterFacts() {
  const each = state.meta.parameters[state.column], { step } = state;
  const optimizer = each.optimizer === null ? T("no_optimizer") : sentences(state.meta.optimizers[each.optimizer]?.kind ?? "?", T("group_number", { number: each.group ?? 0 }));
  const found = [
    [T("fact_shape"), sentences(`[${each.shape.join(", ")}]`, each.dtype, each.compute_dtype && each.compute_dtype !== each.dtype ? T("computed_in", { dtype: each.compute_dtype }) : "")],
    [T("fact_module"), sentences(each.module, optimizer)],
  ];
  if (each.aliases.length) found.push([T("fact_aliases"), each.aliases.join(", ")]);
  if (!step || !step.states || step.row < 0) return found;
  const at = (name) => step[name]?.[state.column];
  const kind = step.states[state.column];
  found.push([T("column_step"), sentences(String(step.step), nearestText())]);
  found.push([T("column_state"), T(`state_${kind}`), kind === 4 ? "error" : ""]);
  if (kind > 1) {
    found.push([T("fact_norm"), sentences(fmt(at("grad_norm"), 6), `RMS ${fmt(at("grad_norm") / Math.sqrt(each.numel))}`)]);
    found.push([T("fact_max"), fmt(at("grad_max"), 6)]);
    found.push([T("fact_zeros"), sentences(share(at("zeros"), each.numel), `NaN/Inf ${count(at("nonfinite"))}`)]);
    if (!Number.isNaN(at("applied_norm"))) found.push([T("fact_applied"), fmt(at("applied_norm"), 6)]);
  }
  if (!Number.isNaN(at("update_ratio"))) found.push([T("fact_update"), sentences(fmt(at("update_ratio")), Number.isNaN(at("unmoved")) ? "" : T("unmoved", { share: share(at("unmoved"), 1) }))]);
  return found;
}
