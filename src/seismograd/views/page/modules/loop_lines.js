// The loop as the user wrote it: which lines of the script were called, in order, and how often.

/** @import { Finding, LoopLine } from "./answers.d.ts" */

import { el } from "./dom.js";
import { SEVERITY_MARKS } from "./severity.js";
import { currentMeta } from "./state.js";
import { T } from "./texts.js";

/**
 * Which call the fault that a rule found is about.
 *
 * @type {Record<string, string>}
 */
export const FAULT_LANES = {
  SG301: "ZERO_GRAD",
  SG302: "ZERO_GRAD",
  SG303: "STEP",
  SG304: "CLIP",
  SG305: "CLIP",
  SG306: "UNSCALE",
  SG307: "BACKWARD",
  SG308: "BACKWARD",
  SG309: "BACKWARD",
  SG310: "BACKWARD",
};

export function loopList() {
  const { lines } = currentMeta().loop;
  return el("ol", { class: "loop" }, ...lines.map(loopLine));
}

/** @param {LoopLine} line */
function loopLine(line) {
  const site = currentMeta().sites[line.site];
  const faults = currentMeta().findings.filter((each) => isAbout(each, line));
  return el(
    "li",
    { class: faults.length ? faults[0].severity : null },
    el("code", {}, site?.where ?? "–"),
    " ",
    el("strong", {}, T(`kind_${line.kind}`)),
    ` ${howOften(line.count)} `,
    ...faults.map((each) =>
      el("span", { class: each.severity }, `← ${SEVERITY_MARKS[each.severity]} ${each.code} `),
    ),
  );
}

/**
 * @param {Finding} finding
 * @param {LoopLine} line
 */
function isAbout(finding, line) {
  if (FAULT_LANES[finding.code] !== line.kind) return false;
  const { sites, loop } = currentMeta();
  const isNamed = loop.lines.some(
    (each) => each.kind === line.kind && sites[each.site]?.where === finding.where,
  );
  return !isNamed || sites[line.site]?.where === finding.where;
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
