// The list of runs of `view`, and the comparison of two.

const runsPanel = panel("runs", {
  title: "runs",
  sub: () => T("runs_sub"),
  on: "runs",
  draw: drawRuns,
  table: () => ({ head: RUN_COLUMNS.map((key) => T(`column_${key}`)), rows: state.runs.map(runRow) }),
});

const RUN_COLUMNS = ["run", "script", "began", "steps", "findings", "end"];

// A narrow page leaves out what matters less; the table has it.
const runClass = (key) => (key === "steps" ? null : key === "script" || key === "began" ? "words less" : "words");

function runRow(run) {
  return [run.name, run.script, run.created.replace("T", " ").slice(0, 16), run.problem ? inLanguage(run.problem) : run.rows,
    Object.keys(SEVERITY_MARKS).filter((severity) => run.findings[severity]).map((severity) => `${SEVERITY_MARKS[severity]} ${T(`severity_${severity}`)} × ${run.findings[severity]}`).join(", ") || T("none"),
    T(`run_${run.state}`)];
}

function address(run, other) {
  return `?${new URLSearchParams(other === undefined ? { run } : { run, with: other })}`;
}

function drawRuns(body) {
  if (!state.runs.length) return nothing(body, T("no_runs"));
  const line = (run) => {
    const [name, ...rest] = runRow(run);
    return el("tr", {}, el("td", {}, run.problem ? name : el("a", { href: address(run.index) }, name)), ...rest.map((value, index) => el("td", { class: runClass(RUN_COLUMNS[index + 1]) }, String(value))));
  };
  const usable = state.runs.filter((run) => !run.problem);
  const pick = (chosen) => el("select", { "aria-label": T("choose_run") }, ...usable.map((run) => el("option", { value: String(run.index), selected: run.index === chosen }, run.name)));
  const one = pick(usable[1]?.index), two = pick(usable[0]?.index);
  body.replaceChildren(
    el("div", { class: "scroll" }, el("table", { class: "runs" }, el("thead", {}, el("tr", {}, ...RUN_COLUMNS.map((key) => el("th", { scope: "col", class: runClass(key) }, T(`column_${key}`))))), el("tbody", {}, ...state.runs.map(line)))),
    usable.length > 1 ? el("p", { class: "compare" }, `${T("compare")} `, one, " ↔ ", two, " ", el("button", { type: "button", onclick: () => { location.search = address(one.value, two.value); } }, T("compare"))) : "",
  );
}

async function loadRuns() {
  const response = await fetch("runs", { credentials: "same-origin" });
  if (!response.ok) throw new Error(String(response.status));
  return await response.json();
}

async function showRuns() {
  state.runs = (await loadRuns()).runs;
  document.getElementById("main").replaceChildren(runsPanel.root);
  state.meta = { rows: 0, steps: { rows: [], first: 0 }, parameters: [], findings: [] };
  drawBar();
  emit("runs");
  setInterval(async () => {
    try {
      const { runs } = await loadRuns();
      connected(true);
      if (JSON.stringify(runs) !== JSON.stringify(state.runs)) { state.runs = runs; if (!runsPanel.root.contains(document.activeElement)) emit("runs"); }
    } catch (error) { connected(false, error); }
  }, 3000);
}

// A run that goes on: the server says when there is more.

class Live {
  constructor(index, changed) {
    this.index = index;
    this.changed = changed;
    this.open();
  }

  open() {
    this.events = new EventSource(`run/${this.index}/live`);
    this.events.onmessage = (event) => { connected(true); this.changed(JSON.parse(event.data)); };
    this.events.onerror = () => {
      if (this.events.readyState !== EventSource.CLOSED) { connected(false); return; } // it tries again by itself
      this.events.close();
      fetch("runs", { credentials: "same-origin" }).then((response) => connected(false, new Error(String(response.status))), (error) => connected(false, error));
      setTimeout(() => this.open(), 2000);
    };
  }
}
