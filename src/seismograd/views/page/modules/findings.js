// Is it healthy? The verdict, the findings along the run, and what each rests on.

/** @import { Finding, Meta, RuleStatus } from "./answers.d.ts" */

import { el } from "./dom.js";
import { on } from "./events.js";
import { drawTimeline, goTo, timeline } from "./finding_timeline.js";
import { look } from "./look.js";
import { fmt } from "./numbers.js";
import { Panel } from "./panel.js";
import { SEVERITY_MARKS } from "./severity.js";
import { currentMeta, state } from "./state.js";
import { inLanguage, sentences, T } from "./texts.js";
import { painted } from "./timing.js";
import { isGood, verdictText, worstSeverity } from "./verdict.js";

export const findingsPanel = new Panel("findings", {
  title: "diagnosis",
  sub: () =>
    sentences(T(`judged_${currentMeta().judged}`), currentMeta().rows ? "" : T("no_steps")),
  on: "meta window",
  draw: drawFindings,
  table: () => ({
    head: [
      "severity",
      "code",
      "name",
      "first_step",
      "last_step",
      "parameters",
      "cause",
      "advice",
      "where",
    ].map((key) => T(`column_${key}`)),
    rows: currentMeta().findings.map((each) => [
      T(`severity_${each.severity}`),
      each.code,
      each.name,
      each.first_step,
      each.last_step,
      each.parameters.join(" "),
      inLanguage(each.cause),
      inLanguage(each.advice),
      each.where,
    ]),
  }),
});

on("cursor", () => {
  if (!findingsPanel.asTable && currentMeta().rows && drawnFindings) drawTimeline();
});

let drawnFindings = "";

/** @type {unknown[]} */
let drawnOf = [];

/** @param {HTMLElement} body */
function drawFindings(body) {
  const { findings, rules, notes, run } = currentMeta();
  const isOld = drawnOf[0] === state.meta && drawnOf[1] === look.lang && body.childNodes.length > 0;
  const now = isOld
    ? drawnFindings
    : JSON.stringify([
        findings,
        rules,
        notes,
        run.torn,
        run.not_kept,
        look.lang,
        currentMeta().rows > 0,
        currentMeta().judged,
        currentMeta().training,
      ]);
  drawnOf = [state.meta, look.lang];
  if (now !== drawnFindings || !body.childNodes.length) {
    drawnFindings = now;
    const worst = worstSeverity();
    const good = isGood();
    const { training } = currentMeta();
    const opened = new Set(
      [...body.querySelectorAll("details[open]")].map((each) => each.getAttribute("data-key")),
    );
    body.replaceChildren(
      el(
        "p",
        { class: `verdict ${worst ?? (good ? "good" : "")}`, id: "verdict" },
        `${worst ? SEVERITY_MARKS[worst] : good ? "✓" : "–"} ${verdictText()}`,
      ),
      state.otherMeta ? el("p", { class: "dim" }, currentMeta().run.name) : "",
      training ? el("p", { class: "course", id: "course" }, inLanguage(training.line)) : "",
      findings.length || currentMeta().rows ? timeline.root : "",
      el("div", { class: "cards" }, ...findings.map((each, index) => card(each, index, opened))),
      state.otherMeta ? otherVerdict(state.otherMeta) : "",
      ruleList(rules),
      ...[run.torn, run.not_kept]
        .filter((each) => each)
        .map((each) => el("p", { class: "warning" }, inLanguage(each))),
      ...notes.map((each) =>
        el(
          "p",
          { class: "warning" },
          sentences(inLanguage(each.text), each.step >= 0 ? T("step", { step: each.step }) : ""),
        ),
      ),
    );
  }
  if (currentMeta().rows) drawTimeline();
  painted("verdict");
}

/**
 * The verdict on the run that this one is compared with, and what only one of the two has.
 *
 * @param {Meta} meta
 */
function otherVerdict(meta) {
  const worst = worstSeverity(meta);
  const good = isGood(meta);
  const here = new Set(currentMeta().findings.map((each) => each.code));
  const mark = worst ? SEVERITY_MARKS[worst] : good ? "✓" : "–";
  return el(
    "div",
    { class: "other-run", id: "other-verdict" },
    el("p", { class: `verdict ${worst ?? (good ? "good" : "")}` }, `${mark} ${verdictText(meta)}`),
    el("p", { class: "dim" }, T("against", { run: meta.run.name })),
    meta.training ? el("p", { class: "course" }, inLanguage(meta.training.line)) : "",
    ...meta.findings.map((each) =>
      el(
        "details",
        { class: each.severity },
        el(
          "summary",
          {},
          `${SEVERITY_MARKS[each.severity]} ${each.code} ${each.name} · ${stepsText(each)} · `,
          T(here.has(each.code) ? "in_both" : "only_there"),
        ),
        el("p", {}, inLanguage(each.cause)),
        el("p", {}, el("strong", {}, `${T("change")} `), inLanguage(each.advice)),
      ),
    ),
  );
}

/** @param {Finding} finding */
function stepsText(finding) {
  return finding.first_step === finding.last_step
    ? T("step", { step: finding.first_step })
    : T("steps", { first: finding.first_step, last: finding.last_step });
}

/**
 * @param {Finding} finding
 * @param {number} index
 * @param {Set<string | null>} opened
 */
function card(finding, index, opened) {
  const shown = finding.parameters.slice(0, 3).join(", ");
  const more = finding.parameters.length - 3;
  const severity = `${SEVERITY_MARKS[finding.severity]} ${T(`severity_${finding.severity}`)}`;
  return el(
    "article",
    { class: `card ${finding.severity}` },
    el(
      "h3",
      {},
      el(
        "button",
        { type: "button", onclick: () => goTo(finding), title: T("go_there") },
        `${severity} · ${finding.code} ${finding.name}`,
      ),
    ),
    el(
      "p",
      { class: "dim" },
      sentences(
        stepsText(finding),
        more > 0 ? T("and_more", { names: shown, number: more }) : shown,
      ),
    ),
    el("p", {}, inLanguage(finding.cause)),
    el("p", {}, el("strong", {}, `${T("change")} `), inLanguage(finding.advice)),
    finding.where
      ? el(
          "p",
          {},
          el("strong", {}, `${T(finding.seen_only ? "seen_at" : "where")} `),
          el("code", {}, finding.where),
        )
      : "",
    finding.excerpt ? el("pre", {}, finding.excerpt) : "",
    finding.related.length
      ? el("p", { class: "dim" }, T("explains", { codes: finding.related.join(", ") }))
      : "",
    explained(finding, opened),
    finding.evidence.length
      ? el(
          "details",
          { class: "evidence", "data-key": String(index), open: opened.has(String(index)) },
          el("summary", {}, T("evidence", { number: finding.evidence.length })),
          el(
            "div",
            { class: "scroll" },
            el(
              "table",
              {},
              el(
                "thead",
                {},
                el(
                  "tr",
                  {},
                  ...["statistic", "parameter", "step", "value", "limit"].map((key) =>
                    el("th", { scope: "col" }, T(`column_${key}`)),
                  ),
                ),
              ),
              el(
                "tbody",
                {},
                ...finding.evidence.map((each) =>
                  el(
                    "tr",
                    {},
                    ...[
                      each.statistic,
                      each.parameter || T("all_parameters"),
                      String(each.step),
                      fmt(each.value, 6),
                      fmt(each.limit, 6),
                    ].map((text) =>
                      el(
                        "td",
                        { class: text === "nan" || text === "inf" ? "nonfinite" : null },
                        text,
                      ),
                    ),
                  ),
                ),
              ),
            ),
          ),
        )
      : "",
  );
}

/**
 * What the rule of a finding looks for, folded: all that `seismograd explain` says.
 *
 * @param {Finding} finding
 * @param {Set<string | null>} opened
 */
function explained(finding, opened) {
  const sections = currentMeta().explanations[finding.code];
  if (!sections) return "";
  const key = `explain ${finding.code}`;
  return el(
    "details",
    { class: "explained", "data-key": key, open: opened.has(key) },
    el("summary", {}, T("explain", { code: finding.code })),
    ...sections.flatMap(([heading, paragraphs]) => [
      el("h4", {}, inLanguage(heading)),
      ...paragraphs.map((each) => el("p", {}, inLanguage(each))),
    ]),
  );
}

/** @param {RuleStatus[]} rules */
function ruleList(rules) {
  if (!rules.length) return "";
  const clear = rules
    .filter((each) => each.status === "clear")
    .map((each) => `${each.code} ${each.name}`);
  const blind = rules.filter((each) => each.status === "not evaluated");
  return el(
    "div",
    { class: "rules" },
    clear.length
      ? el(
          "details",
          {},
          el("summary", {}, T("rules_clear_head", { number: clear.length })),
          el("p", {}, clear.join(", ")),
        )
      : "",
    blind.length
      ? el(
          "details",
          {},
          el("summary", {}, T("rules_blind_head", { number: blind.length })),
          ...blind.map((each) =>
            el(
              "p",
              {},
              T("rules_blind", {
                rule: `${each.code} ${each.name}`,
                reason: inLanguage(each.reason),
              }),
            ),
          ),
        )
      : "",
  );
}
