// The list of runs of `view`, and the comparison of two.

/** @import { ListedRun, Meta } from "./answers.d.ts" */

import { drawBar } from "./bar.js";
import { fit } from "./canvas.js";
import { shades } from "./colours.js";
import { connected } from "./connection.js";
import { byId, el } from "./dom.js";
import { emit } from "./events.js";
import { asNumber, fmt } from "./numbers.js";
import { nothing, Panel } from "./panel.js";
import { SEVERITIES, SEVERITY_MARKS } from "./severity.js";
import { state } from "./state.js";
import { inLanguage, T } from "./texts.js";

const runsPanel = new Panel("runs", {
  title: "runs",
  sub: () => T("runs_sub"),
  on: "runs appearance",
  draw: drawRuns,
  table: () => ({
    head: RUN_COLUMNS.map((key) => T(`column_${key}`)),
    rows: state.runs.map(runRow),
  }),
});

const RUN_COLUMNS = ["run", "script", "began", "steps", "loss", "findings", "end"];

/**
 * A narrow page leaves out what matters less; the table has it.
 *
 * @param {string} key
 */
const runClass = (key) =>
  key === "steps" || key === "loss"
    ? null
    : key === "script" || key === "began"
      ? "words less"
      : "words";

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
    run.rows ? fmt(run.loss) : "–",
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
  const usable = state.runs.filter((run) => !run.problem);
  const known = new Set(usable.map((run) => run.index));
  chosen = chosen.filter((index) => known.has(index));
  const button = el(
    "button",
    {
      type: "button",
      onclick: () => {
        // the earlier one is what the later one is compared with
        const [one, other] = [...chosen].sort((first, second) => placeOf(first) - placeOf(second));
        location.search = address(one, other);
      },
    },
    T("compare"),
  );
  const hint = el("span", { class: "dim" }, T("choose_two"));
  const chose = () => {
    button.disabled = chosen.length !== 2;
    for (const box of body.querySelectorAll("input"))
      box.checked = chosen.includes(Number(box.value));
  };
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
            usable.length > 1 ? el("th", { scope: "col", "aria-label": T("compare") }) : "",
            ...RUN_COLUMNS.map((key) =>
              el("th", { scope: "col", class: runClass(key) }, T(`column_${key}`)),
            ),
          ),
        ),
        el("tbody", {}, ...state.runs.map((run) => runLine(run, usable.length > 1, chose))),
      ),
    ),
    usable.length > 1 ? el("p", { class: "compare" }, button, " ", hint) : "",
  );
  chose();
}

/**
 * The runs that are chosen to be compared, the latest choice last: a third takes the place of the
 * first.
 *
 * @type {number[]}
 */
let chosen = [];

/** @param {number} index */
const placeOf = (index) => state.runs.findIndex((run) => run.index === index);

/**
 * @param {ListedRun} run
 * @param {boolean} withBox
 * @param {() => void} chose
 */
function runLine(run, withBox, chose) {
  const [name, ...rest] = runRow(run);
  const box = el("input", {
    type: "checkbox",
    value: String(run.index),
    "aria-label": `${T("compare")} ${run.name}`,
    onchange: () => {
      chosen = chosen.filter((index) => index !== run.index);
      if (box.checked) chosen = [...chosen, run.index].slice(-2);
      chose();
    },
  });
  return el(
    "tr",
    {},
    withBox ? el("td", {}, run.problem ? "" : box) : "",
    el(
      "td",
      { class: "words name" },
      run.problem ? String(name) : el("a", { href: address(run.index) }, String(name)),
    ),
    ...rest.map((value, index) =>
      el(
        "td",
        { class: runClass(RUN_COLUMNS[index + 1]) },
        RUN_COLUMNS[index + 1] === "loss" && run.course.length > 1 ? sparkline(run) : "",
        String(value),
      ),
    ),
  );
}

/**
 * The course of the loss, a gap where it was not finite.
 *
 * @param {ListedRun} run
 */
function sparkline(run) {
  const wide = 90,
    high = 18;
  const canvas = el("canvas", { class: "spark", "aria-hidden": "true" });
  canvas.style.width = `${wide}px`;
  const pen = fit(canvas, wide, high);
  const values = run.course.map((value) => asNumber(value) ?? NaN);
  const known = values.filter(Number.isFinite);
  const low = Math.min(...known),
    span = Math.max(...known) - low || 1;
  let isDown = false;
  pen.strokeStyle = shades.before;
  pen.lineWidth = 1.3;
  pen.beginPath();
  values.forEach((value, index) => {
    const x = 2 + (index / (values.length - 1)) * (wide - 4),
      y = 2 + (1 - (value - low) / span) * (high - 4);
    if (!Number.isFinite(value)) {
      pen.fillStyle = shades.nan;
      pen.fillRect(x - 1, 1, 2, high - 2);
    } else if (isDown) pen.lineTo(x, y);
    else pen.moveTo(x, y);
    isDown = Number.isFinite(value);
  });
  pen.stroke();
  return canvas;
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
