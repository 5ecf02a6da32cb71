// The verdict in one line.

/** @import { Meta } from "./answers.d.ts" */

import { SEVERITIES } from "./severity.js";
import { currentMeta } from "./state.js";
import { inLanguage, T } from "./texts.js";

/** @param {Meta} meta */
export function verdictText(meta = currentMeta()) {
  const { findings, rules, rows, judged, training } = meta;
  if (!rows) return T("verdict_nothing");
  if (!findings.length) {
    const looked = rules.filter((each) => each.status !== "not evaluated").length;
    if (judged !== "now") return T("verdict_quiet");
    return looked && training ? inLanguage(training.headline) : T("verdict_unjudged");
  }
  return T("verdict_found", {
    list: SEVERITIES.map((severity) => {
      const found = findings.filter((each) => each.severity === severity).length;
      return found ? `${T(`severity_${severity}`)} × ${found}` : "";
    })
      .filter((each) => each)
      .join(", "),
  });
}

/**
 * Whether the rules have looked and the training learned: nothing less is green.
 *
 * @param {Meta} meta
 */
export function isGood(meta = currentMeta()) {
  const { findings, rules, judged, training } = meta;
  return (
    !findings.length &&
    judged === "now" &&
    rules.some((each) => each.status !== "not evaluated") &&
    training?.learned === true
  );
}

/** @param {Meta} meta */
export function worstSeverity(meta = currentMeta()) {
  return SEVERITIES.find((severity) => meta.findings.some((each) => each.severity === severity));
}
