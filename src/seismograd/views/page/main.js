// Puts the page together.

const SORTS = ["depth", "norm", "trouble", "name"];
const GROUPS = [0, 1, 2, 3];
const KINDS = ["auto", "matrix", "vector", "all"];

function relist() {
  const before = state.column;
  listRows();
  drawFilters();
  emit("rows");
  if (state.column !== before) { emit("cursor"); emit("column"); } // the one before is not listed any more
}

function drawBar() {
  const { meta } = state;
  const run = meta?.run;
  const worst = run && worstSeverity();
  document.documentElement.lang = look.lang;
  document.title = run ? sentences(run.name, run.script, "seismograd") : "seismograd";
  document.querySelector(".skip").textContent = T("skip");
  document.getElementById("bar").replaceChildren(
    el("h1", {}, "seismograd"),
    run ? el("span", { class: "about" }, sentences(run.script, run.name, `PyTorch ${run.torch}`, state.otherMeta ? T("against", { run: otherName() }) : "")) : "",
    run ? el("span", { class: `badge ${run.state}`, id: "state" }, `${{ live: "●", ended: "■", broken: "▲" }[run.state]} ${T(run.state === "live" && CONFIG.mode === "report" ? "run_was_live" : `run_${run.state}`)}`) : "",
    run && meta.rows ? el("span", {}, T("steps_seen", { number: count(meta.rows), last: count(meta.steps.last) })) : "",
    run && worst ? el("span", { class: `badge ${worst}` }, verdictText()) : "",
    el("span", { class: "tools" },
      CONFIG.mode === "view" && run && CONFIG.only === null ? el("a", { href: "?", class: "badge" }, T("runs")) : "",
      tool("language", look.lang === "en" ? "中文" : "English", T("key_language"), ACTIONS.l),
      tool("theme", look.theme === "dark" ? "☀" : "◐", T("key_dark"), ACTIONS.d),
      run ? tool("tables", T("tables"), T("key_table"), ACTIONS.t) : "",
      tool("help", "?", T("key_help"), ACTIONS["?"])),
  );
}

function tool(name, text, title, action) {
  return el("button", { type: "button", "data-name": name, title, "aria-label": title, onclick: action }, text);
}

function drawFilters() {
  const root = document.getElementById("filters");
  if (!state.meta?.rows) { root.replaceChildren(); return; }
  const deepest = Math.max(0, ...state.meta.parameters.map((each) => each.name.split(".").length - 1));
  const select = (name, options, value, change) => el("label", {}, T(`choose_${name}`), el("select", { "data-name": name, onchange: (event) => { change(event.target.value); relist(); } },
    ...options.map((each) => el("option", { value: String(each), selected: each === value }, T(`${name}_${each}`)))));
  let input = document.getElementById("filter");
  const focused = document.activeElement === input;
  if (!input) {
    input = el("input", { id: "filter", type: "text", autocomplete: "off", spellcheck: "false" });
    input.addEventListener("input", later(() => { state.filter = input.value; relist(); }, 120));
  }
  if (input.value !== state.filter && !focused) input.value = state.filter;
  input.setAttribute("placeholder", T("filter_hint"));
  root.setAttribute("aria-label", T("filter"));
  const label = root.querySelector("label.filter") ?? el("label", { class: "filter" }, el("span"), input);
  label.firstChild.textContent = T("filter");
  if (!label.isConnected) root.replaceChildren(label);
  for (const other of [...root.children]) if (other !== label) other.remove();
  root.append(
    select("sort", SORTS, state.sort, (value) => { state.sort = value; }),
    select("group", GROUPS.filter((each) => each <= deepest), state.group, (value) => { state.group = Number(value); }),
    select("kind", KINDS, state.kind, (value) => { state.kind = value; }),
    el("span", { class: "dim", id: "listed" }, T("of_parameters", { listed: state.rows.reduce((sum, row) => sum + row.columns.length, 0), all: state.meta.parameters.length })),
  );
}

function setLanguage(lang) {
  look.lang = lang;
  remember("lang", lang);
  redrawAll();
}

function setTheme(theme) {
  look.theme = theme;
  remember("theme", theme);
  redrawAll();
}

function redrawAll() {
  document.documentElement.dataset.theme = look.theme;
  readColours();
  drawBar();
  drawFilters();
  emit("look");
}

function connected(well, error) {
  const root = document.getElementById("trouble");
  if (well) { root.hidden = true; return; }
  const refused = error && /^40[13]$/.test(error.message);
  root.textContent = T(CONFIG.mode === "report" ? "trouble_report" : refused ? "trouble_token" : "trouble_lost");
  root.hidden = false;
  if (error && CONFIG.mode === "report") throw error;
}

function sayStep() {
  const { step, meta } = state;
  if (!step || step.row < 0) return;
  const kind = step.states[state.column];
  const own = state.column < 0 ? "" : `${chosenName()}: ${kind === 3 || kind === 2 ? fmt(step.grad_norm[state.column]) : T(`state_${kind}`)}`;
  const special = Object.entries(meta.step_flags).filter(([name, bit]) => step.flags & bit && name !== "NO_LOSS").map(([name]) => T(`flag_${name}`));
  tell(sentences(
    T("step", { step: step.step }), step.row === state.row ? "" : nearestText(), step.epoch >= 0 ? T("epoch", { epoch: step.epoch }) : "",
    step.loss_measured ? `${T("scalar_loss")} ${fmt(step.loss)}` : "", `${T("fact_norm")} ${fmt(step.total_norm)}`,
    `${T("scalar_lr")} ${fmt(step.lr)}`, own, ...special));
}
on("step cursor look", () => sayStep());
on("meta rows", () => { if (state.meta) drawBar(); });
on("heat step", () => { if (state.sort === "trouble" || state.sort === "norm") { const before = state.rows.map((row) => row.label).join(); listRows(); if (state.rows.map((row) => row.label).join() !== before) emit("rows"); } });

function takeMeta(meta) {
  const before = state.meta;
  state.meta = meta;
  if (!before?.rows) {
    state.start = 0;
    state.stop = meta.rows;
    state.row = Math.max(0, meta.rows - 1);
    const worst = meta.findings[0];
    const wanted = new URLSearchParams(location.search);
    const step = Number(wanted.get("step") ?? NaN);
    if (wanted.has("param")) state.column = meta.parameters.findIndex((each) => each.name === wanted.get("param"));
    if (Number.isFinite(step) && meta.rows) { state.row = rowOf(step); state.follow = false; }
    else if (worst && (CONFIG.mode === "report" || meta.run.state !== "live")) { state.row = worst.first_row; state.follow = false; if (worst.columns.length) state.column = worst.columns[0]; }
  } else if (state.stop >= before.rows) {
    const grown = meta.rows - before.rows;
    if (state.start > 0) state.start += grown;
    state.stop = meta.rows;
  }
  if (state.follow) state.row = Math.max(0, meta.rows - 1);
  const column = state.column;
  listRows();
  if (column >= 0 && column < meta.parameters.length) state.column = column;
  document.body.dataset.window = `${state.start}-${state.stop}`;
  drawFilters();
  emit("meta");
  if (state.heat) askStep(); // else behind the heat map
  askWindow();
}

const ORDER = ["findings", "heat", "profile", "scalars", "spread", "parameter", "lanes"];

async function showRun(source, other) {
  state.source = source;
  state.other = other;
  if (other) { state.otherMeta = await other.meta(); state.difference = true; }
  document.getElementById("main").replaceChildren(...ORDER.map((id) => panels.get(id).root), footer());
  takeMeta(await source.meta());
  if (!source.live) return;
  let busy = false, waiting = false;
  const refetch = async () => {
    if (busy) { waiting = true; return; }
    busy = true;
    try { takeMeta(await source.meta()); } catch (error) { connected(false, error); }
    busy = false;
    if (waiting) { waiting = false; refetch(); }
  };
  new Live(source.index, (news) => {
    if (news.version === source.version) return;
    const first = source.version === "";
    source.version = news.version;
    source.kept.clear();
    if (!first || news.rows !== state.meta.rows || news.state !== state.meta.run.state) refetch();
  });
}

function footer() {
  const words = el("footer", { class: "panel dim" });
  const draw = () => {
    const { run } = state.meta ?? {};
    words.replaceChildren(sentences(T("footer"), run ? sentences(run.created, `seismograd ${run.seismograd}`, `Python ${run.python}`, T("level", { level: run.level })) : ""));
  };
  on("meta look", draw);
  return words;
}

window.addEventListener("resize", later(() => emit("look"), 120));
window.addEventListener("beforeprint", () => emit("look"));

async function start() {
  document.documentElement.dataset.theme = look.theme;
  readColours();
  drawBar();
  try {
    if (CONFIG.mode === "report") return await showRun(await ReportSource.open(), null);
    const wanted = new URLSearchParams(location.search);
    const run = wanted.get("run") ?? CONFIG.only;
    if (run === null) return await showRuns();
    const source = new ServerSource(Number(run));
    source.lookAhead(widthOf(), state.statistic, state.which);
    return await showRun(source, wanted.has("with") ? new ServerSource(Number(wanted.get("with"))) : null);
  } catch (error) {
    connected(false, error);
    throw error;
  }
}

start();
