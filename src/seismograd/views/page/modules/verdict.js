// The verdict in one line.

import { SEVERITIES } from "./severity.js";
import { currentMeta } from "./state.js";
import { inLanguage, T } from "./texts.js";

export function verdictText() {
  const { findings, rules, rows } = currentMeta();
  if (!rows) return T("verdict_nothing");
  if (!findings.length) {
    const looked = rules.filter((each) => each.status !== "not evaluated").length;
    if (currentMeta().judged !== "now") return T("verdict_quiet");
    const { training } = currentMeta();
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

/** Whether the rules have looked and the training learned: nothing less is green. */
export function isGood() {
  const { findings, rules, judged, training } = currentMeta();
  return (
    !findings.length &&
    judged === "now" &&
    rules.some((each) => each.status !== "not evaluated") &&
    training?.learned === true
  );
}

export function worstSeverity() {
  return SEVERITIES.find((severity) =>
    currentMeta().findings.some((each) => each.severity === severity),
  );
}
