// Where along the run the findings are, and going to them.

/** @import { Finding } from "./answers.d.ts" */

import { fit } from "./canvas.js";
import { shades } from "./colours.js";
import { setCursor, setWindow, stepOf } from "./cursor.js";
import { el } from "./dom.js";
import { askWindow } from "./questions.js";
import { SEVERITY_MARKS } from "./severity.js";
import { currentMeta, currentSource, state } from "./state.js";
import { T } from "./texts.js";

export const timeline = {
  canvas: el("canvas", { role: "img" }),
  root: el("div", { class: "canvas" }),
};

timeline.root.append(timeline.canvas);

timeline.root.addEventListener("click", (event) => {
  const box = timeline.canvas.getBoundingClientRect();
  setCursor(((event.clientX - box.left) / box.width) * currentMeta().rows);
});

/** @param {Finding} finding */
export function goTo(finding) {
  const span = finding.last_row - finding.first_row + 1;
  if (currentMeta().rows > 400 && span < (state.stop - state.start) / 20)
    setWindow(finding.first_row - Math.max(50, span), finding.last_row + Math.max(50, span));
  showStatistic(finding);
  setCursor(finding.row, finding.columns[0]);
}

/**
 * Begin at a finding: for a page that opens where a run has gone wrong.
 *
 * @param {Finding} finding
 */
export function beginAt(finding) {
  state.row = finding.row;
  state.follow = false;
  state.statistic = statisticOf(finding);
  if (finding.columns.length) state.column = finding.columns[0];
}

/**
 * Show in the heat map what the finding rests on, where that is one of its statistics.
 *
 * @param {Finding} finding
 */
function showStatistic(finding) {
  const wanted = statisticOf(finding);
  if (wanted === state.statistic) return;
  state.statistic = wanted;
  askWindow();
}

/**
 * Which statistic of the heat map a finding rests on; the one that is shown, where it is none.
 *
 * @param {Finding} finding
 */
function statisticOf(finding) {
  const wanted = finding.evidence
    .map((each) => each.statistic)
    .find((name) => currentMeta().statistics.includes(name));
  return wanted && currentSource().has(`heat/${wanted}/`) ? wanted : state.statistic;
}

export function drawTimeline() {
  const { findings, rows } = currentMeta();
  const lanes = Math.max(1, Math.min(findings.length, 8));
  const width = timeline.root.clientWidth || 800;
  const height = 10 + lanes * 15;
  const pen = fit(timeline.canvas, width, height);
  timeline.canvas.setAttribute(
    "aria-label",
    T("timeline_label", { number: findings.length, first: stepOf(0), last: stepOf(rows - 1) }),
  );
  pen.fillStyle = shades.grid;
  pen.fillRect(0, 4, width, height - 8);
  pen.fillStyle = shades.shade;
  pen.fillRect(
    (state.start / rows) * width,
    0,
    Math.max(2, ((state.stop - state.start) / rows) * width),
    height,
  );
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
    if (wide > size + 8) {
      pen.fillStyle = shades.panel;
      pen.fillText(label, left + 4, 13 + lane * 15);
    } else
      pen.fillText(label, after + size < width ? after : Math.max(0, left - size), 13 + lane * 15);
  });
  pen.strokeStyle = shades.cursor;
  pen.lineWidth = 1.5;
  const x = ((state.row + 0.5) / rows) * width;
  pen.beginPath();
  pen.moveTo(x, 0);
  pen.lineTo(x, height);
  pen.stroke();
}

/** @param {number} direction */
export function nextFinding(direction) {
  const found = [...currentMeta().findings].sort((one, two) => one.row - two.row);
  if (!found.length) return;
  const next =
    direction > 0
      ? (found.find((each) => each.row > state.row) ?? found[0])
      : ([...found].reverse().find((each) => each.row < state.row) ?? found[found.length - 1]);
  goTo(next);
}
