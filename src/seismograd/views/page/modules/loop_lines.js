// The loop as the user wrote it: which lines of the script were called, in order, and how often.

/** @import { LoopLine } from "./answers.d.ts" */

import { el } from "./dom.js";
import { SEVERITY_MARKS } from "./severity.js";
import { currentMeta } from "./state.js";
import { T } from "./texts.js";

export function loopList() {
  const { lines } = currentMeta().loop;
  return el("ol", { class: "loop" }, ...lines.map(loopLine));
}

/** @param {LoopLine} line */
function loopLine(line) {
  const site = currentMeta().sites[line.site];
  const faults = line.findings.map((index) => currentMeta().findings[index]);
  return el(
    "li",
    { class: faults.length ? faults[0].severity : null },
    el("code", {}, site?.where ?? "–"),
    " ",
    line.source
      ? el("code", { class: "source" }, line.source)
      : el("strong", {}, T(`kind_${line.kind}`)),
    ` ${howOften(line.count)} `,
    ...faults.map((each) =>
      el("span", { class: each.severity }, `← ${SEVERITY_MARKS[each.severity]} ${each.code} `),
    ),
  );
}

/** @param {number} count */
function howOften(count) {
  const { steps } = currentMeta().loop;
  if (!count) return "×0";
  const times = count / Math.max(1, steps);
  return times >= 0.95
    ? T("times_per_step", { number: Number(times.toFixed(1)) })
    : T("once_in_steps", { number: Math.round(1 / times) });
}
