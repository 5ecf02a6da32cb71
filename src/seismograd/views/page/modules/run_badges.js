// How a run is, in a few words: whether it goes on, how far it is, and what is wrong with it.

/** @import { Meta, RunState } from "./answers.d.ts" */

import { el } from "./dom.js";
import { count } from "./numbers.js";
import { inLanguage, T } from "./texts.js";
import { verdictText, worstSeverity } from "./verdict.js";

/** @type {Record<RunState, string>} */
const STATE_MARKS = { live: "●", ended: "■", broken: "▲" };

/**
 * @param {Meta} meta
 * @param {boolean} isNow whether it is known to be as it was when this was written
 */
export function runBadges(meta, isNow) {
  const { run } = meta;
  const worst = worstSeverity(meta);
  const text =
    run.state !== "live" && run.end
      ? inLanguage(run.end)
      : T(run.state === "live" && !isNow ? "run_was_live" : `run_${run.state}`);
  return [
    el("span", { class: `badge ${run.state}`, id: "state" }, `${STATE_MARKS[run.state]} ${text}`),
    meta.rows
      ? el("span", {}, T("steps_seen", { number: count(meta.rows), last: count(meta.steps.last) }))
      : "",
    worst ? el("span", { class: `badge ${worst}` }, verdictText(meta)) : "",
  ];
}
