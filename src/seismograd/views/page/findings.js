// Is it healthy? The verdict, the findings along the run, and what each rests on.

const findingsPanel = panel("findings", {
  title: "diagnosis",
  sub: () => sentences(T(`judged_${state.meta.judged}`), state.meta.rows ? "" : T("no_steps")),
  on: "meta window",
  draw: drawFindings,
  table: () => ({
    head: ["severity", "code", "name", "first_step", "last_step", "parameters", "cause", "advice", "where"].map((key) => T(`column_${key}`)),
    rows: state.meta.findings.map((each) => [T(`severity_${each.severity}`), each.code, each.name, each.first_step, each.last_step, each.parameters.join(" "),
      inLanguage(each.cause), inLanguage(each.advice), each.where]),
  }),
});

on("cursor", () => { if (!findingsPanel.asTable && state.meta.rows && drawnFindings) drawTimeline(); });

const timeline = { canvas: el("canvas", { role: "img" }), root: el("div", { class: "canvas" }) };
timeline.root.append(timeline.canvas);
timeline.root.addEventListener("click", (event) => {
  const box = timeline.canvas.getBoundingClientRect();
  setCursor(((event.clientX - box.left) / box.width) * state.meta.rows);
});

function verdictText() {
  const { findings, rules, rows } = state.meta;
  if (!rows) return T("verdict_nothing");
  if (!findings.length) {
    const looked = rules.filter((each) => each.status !== "not evaluated").length;
    if (state.meta.judged !== "now") return T("verdict_quiet");
    return looked ? T("verdict_healthy", { number: looked }) : T("verdict_unjudged");
  }
  return T("verdict_found", { list: Object.keys(SEVERITY_MARKS).map((severity) => {
    const found = findings.filter((each) => each.severity === severity).length;
    return found ? `${T(`severity_${severity}`)} × ${found}` : "";
  }).filter((each) => each).join(", ") });
}

function worstSeverity() {
  return Object.keys(SEVERITY_MARKS).find((severity) => state.meta.findings.some((each) => each.severity === severity));
}

let drawnFindings = "";
let drawnOf = [];

function drawFindings(body) {
  const { findings, rules, notes, run } = state.meta;
  const isOld = drawnOf[0] === state.meta && drawnOf[1] === look.lang && body.childNodes.length > 0;
  const now = isOld ? drawnFindings : JSON.stringify([findings, rules, notes, run.torn, look.lang, state.meta.rows > 0, state.meta.judged]);
  drawnOf = [state.meta, look.lang];
  if (now !== drawnFindings || !body.childNodes.length) {
    drawnFindings = now;
    const worst = worstSeverity();
    const judged = state.meta.rows > 0 && state.meta.judged === "now" && rules.some((each) => each.status !== "not evaluated");
    const opened = new Set([...body.querySelectorAll("details[open]")].map((each) => each.dataset.key));
    body.replaceChildren(
      el("p", { class: `verdict ${worst ?? (judged ? "good" : "")}`, id: "verdict" }, `${worst ? SEVERITY_MARKS[worst] : judged ? "✓" : "–"} ${verdictText()}`),
      findings.length || state.meta.rows ? timeline.root : "",
      el("div", { class: "cards" }, ...findings.map((each, index) => card(each, index, opened))),
      ruleList(rules),
      ...(run.torn ? [el("p", { class: "warning" }, inLanguage(run.torn))] : []),
      ...notes.map((each) => el("p", { class: "warning" }, sentences(inLanguage(each.text), each.step >= 0 ? T("step", { step: each.step }) : ""))),
    );
  }
  if (state.meta.rows) drawTimeline();
  painted("verdict");
}

function stepsText(finding) {
  return finding.first_step === finding.last_step ? T("step", { step: finding.first_step }) : T("steps", { first: finding.first_step, last: finding.last_step });
}

function card(finding, index, opened) {
  const shown = finding.parameters.slice(0, 3).join(", ");
  const more = finding.parameters.length - 3;
  return el("article", { class: `card ${finding.severity}` },
    el("h3", {}, el("button", { type: "button", onclick: () => goTo(finding), title: T("go_there") }, `${SEVERITY_MARKS[finding.severity]} ${T(`severity_${finding.severity}`)} · ${finding.code} ${finding.name}`)),
    el("p", { class: "dim" }, sentences(stepsText(finding), more > 0 ? T("and_more", { names: shown, number: more }) : shown)),
    el("p", {}, inLanguage(finding.cause)),
    el("p", {}, el("strong", {}, `${T("change")} `), inLanguage(finding.advice)),
    finding.where ? el("p", { class: "mono" }, finding.where) : "",
    finding.excerpt ? el("pre", {}, finding.excerpt) : "",
    finding.related.length ? el("p", { class: "dim" }, T("explains", { codes: finding.related.join(", ") })) : "",
    finding.evidence.length ? el("details", { class: "evidence", "data-key": String(index), open: opened.has(String(index)) },
      el("summary", {}, T("evidence", { number: finding.evidence.length })),
      el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, ...["statistic", "parameter", "step", "value", "limit"].map((key) => el("th", { scope: "col" }, T(`column_${key}`))))),
        el("tbody", {}, ...finding.evidence.map((each) => el("tr", {}, ...[each.statistic, each.parameter || T("all_parameters"), String(each.step), fmt(each.value, 6), fmt(each.limit, 6)]
          .map((text) => el("td", { class: text === "nan" || text === "inf" ? "nonfinite" : null }, text)))))))) : "",
  );
}

function ruleList(rules) {
  if (!rules.length) return "";
  const clear = rules.filter((each) => each.status === "clear").map((each) => `${each.code} ${each.name}`);
  const blind = rules.filter((each) => each.status === "not evaluated");
  return el("div", { class: "rules" },
    clear.length ? el("p", {}, T("rules_clear", { list: clear.join(", ") })) : "",
    blind.length ? el("details", {}, el("summary", {}, T("rules_blind_head", { number: blind.length })),
      ...blind.map((each) => el("p", {}, T("rules_blind", { rule: `${each.code} ${each.name}`, reason: inLanguage(each.reason) })))) : "");
}

function goTo(finding) {
  const span = finding.last_row - finding.first_row + 1;
  if (state.meta.rows > 400 && span < (state.stop - state.start) / 20) setWindow(finding.first_row - Math.max(50, span), finding.last_row + Math.max(50, span));
  setCursor(finding.first_row, finding.columns[0]);
}

function drawTimeline() {
  const { findings, rows } = state.meta;
  const lanes = Math.max(1, Math.min(findings.length, 8));
  const width = timeline.root.clientWidth || 800;
  const height = 10 + lanes * 15;
  const pen = fit(timeline.canvas, width, height);
  timeline.canvas.setAttribute("aria-label", T("timeline_label", { number: findings.length, first: stepOf(0), last: stepOf(rows - 1) }));
  pen.fillStyle = shades.grid;
  pen.fillRect(0, 4, width, height - 8);
  pen.fillStyle = shades.shade;
  pen.fillRect((state.start / rows) * width, 0, Math.max(2, ((state.stop - state.start) / rows) * width), height);
  findings.slice(0, lanes).forEach((finding, lane) => {
    const left = (finding.first_row / rows) * width;
    const wide = Math.max(3, ((finding.last_row + 1 - finding.first_row) / rows) * width);
    pen.fillStyle = shades[finding.severity];
    pen.fillRect(left, 6 + lane * 15, wide, 13);
    pen.fillStyle = shades.text;
    const label = `${SEVERITY_MARKS[finding.severity]} ${finding.code}`;
    pen.textBaseline = "middle";
    pen.font = "11px system-ui, sans-serif";
    const size = pen.measureText(label).width + 4;
    const after = left + wide + 4;
    if (wide > size + 8) { pen.fillStyle = shades.panel; pen.fillText(label, left + 4, 13 + lane * 15); }
    else pen.fillText(label, after + size < width ? after : Math.max(0, left - size), 13 + lane * 15);
  });
  pen.strokeStyle = shades.cursor;
  pen.lineWidth = 1.5;
  const x = ((state.row + 0.5) / rows) * width;
  pen.beginPath(); pen.moveTo(x, 0); pen.lineTo(x, height); pen.stroke();
}

function nextFinding(direction) {
  const found = [...state.meta.findings].sort((one, two) => one.first_row - two.first_row);
  if (!found.length) return;
  const next = direction > 0 ? found.find((each) => each.first_row > state.row) ?? found[0] : [...found].reverse().find((each) => each.first_row < state.row) ?? found[found.length - 1];
  goTo(next);
}
