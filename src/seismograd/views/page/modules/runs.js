// The list of runs of `view`, and the comparison of two.

/** @import { ListedRun, Meta } from "./answers.d.ts" */

import { drawBar } from "./bar.js";
import { connected } from "./connection.js";
import { byId, el } from "./dom.js";
import { emit } from "./events.js";
import { nothing, Panel } from "./panel.js";
import { SEVERITIES, SEVERITY_MARKS } from "./severity.js";
import { state } from "./state.js";
import { inLanguage, T } from "./texts.js";

const runsPanel = new Panel("runs", {
  title: "runs",
  sub: () => T("runs_sub"),
  on: "runs",
  draw: drawRuns,
  table: () => ({
    head: RUN_COLUMNS.map((key) => T(`column_${key}`)),
    rows: state.runs.map(runRow),
  }),
});

const RUN_COLUMNS = ["run", "script", "began", "steps", "findings", "end"];

/**
 * A narrow page leaves out what matters less; the table has it.
 *
 * @param {string} key
 */
const runClass = (key) =>
  key === "steps" ? null : key === "script" || key === "began" ? "words less" : "words";

/**
 * @param {ListedRun} run
 * @returns {(string | number)[]}
 */
function runRow(run) {
  return [
    run.name,
    run.script,
    run.created.replace("T", " ").slice(0, 16),
    run.problem ? inLanguage(run.problem) : run.rows,
    SEVERITIES.filter((severity) => run.findings[severity])
      .map(
        (severity) =>
          `${SEVERITY_MARKS[severity]} ${T(`severity_${severity}`)} × ${run.findings[severity]}`,
      )
      .join(", ") || (run.rows ? T("none") : "–"),
    run.state !== "live" && run.end ? inLanguage(run.end) : T(`run_${run.state}`),
  ];
}

/**
 * @param {number | string} run
 * @param {number | string} [other]
 */
function address(run, other) {
  const wanted = new URLSearchParams({ run: String(run) });
  if (other !== undefined) wanted.set("with", String(other));
  return `?${wanted}`;
}

/** @param {HTMLElement} body */
function drawRuns(body) {
  if (!state.runs.length) return nothing(body, T("no_runs"));
  /** @param {ListedRun} run */
  const line = (run) => {
    const [name, ...rest] = runRow(run);
    return el(
      "tr",
      {},
      el(
        "td",
        {},
        run.problem ? String(name) : el("a", { href: address(run.index) }, String(name)),
      ),
      ...rest.map((value, index) =>
        el("td", { class: runClass(RUN_COLUMNS[index + 1]) }, String(value)),
      ),
    );
  };
  const usable = state.runs.filter((run) => !run.problem);
  /** @param {number | undefined} chosen */
  const pick = (chosen) =>
    el(
      "select",
      { "aria-label": T("choose_run") },
      ...usable.map((run) =>
        el("option", { value: String(run.index), selected: run.index === chosen }, run.name),
      ),
    );
  const one = pick(usable[1]?.index),
    two = pick(usable[0]?.index);
  body.replaceChildren(
    el(
      "div",
      { class: "scroll" },
      el(
        "table",
        { class: "runs" },
        el(
          "thead",
          {},
          el(
            "tr",
            {},
            ...RUN_COLUMNS.map((key) =>
              el("th", { scope: "col", class: runClass(key) }, T(`column_${key}`)),
            ),
          ),
        ),
        el("tbody", {}, ...state.runs.map(line)),
      ),
    ),
    usable.length > 1
      ? el(
          "p",
          { class: "compare" },
          `${T("compare")} `,
          one,
          " ↔ ",
          two,
          " ",
          el(
            "button",
            {
              type: "button",
              onclick: () => {
                location.search = address(one.value, two.value);
              },
            },
            T("compare"),
          ),
        )
      : "",
  );
}

// While the list is shown, as much of a run as panels and keys ask for.
const NO_RUN = /** @type {Meta} */ (
  /** @type {unknown} */ ({ rows: 0, steps: { rows: [], first: 0 }, parameters: [], findings: [] })
);

/** @returns {Promise<{ runs: ListedRun[] }>} */
async function loadRuns() {
  const response = await fetch("runs", { credentials: "same-origin" });
  if (!response.ok) throw new Error(String(response.status));
  return await response.json();
}

export async function showRuns() {
  state.runs = (await loadRuns()).runs;
  byId("main").replaceChildren(runsPanel.root);
  state.meta = NO_RUN;
  drawBar();
  emit("runs");
  setInterval(async () => {
    try {
      const { runs } = await loadRuns();
      connected(true);
      if (JSON.stringify(runs) !== JSON.stringify(state.runs)) {
        state.runs = runs;
        if (!runsPanel.root.contains(document.activeElement)) emit("runs");
      }
    } catch (error) {
      connected(false, error);
    }
  }, 3000);
}
