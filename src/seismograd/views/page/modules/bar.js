// The bar at the top: what run this is, how it is, and the page's tools.

/** @import { Meta, RunState } from "./answers.d.ts" */

import { byId, el } from "./dom.js";
import { on } from "./events.js";
import { ACTIONS } from "./keys.js";
import { CONFIG, look } from "./look.js";
import { count } from "./numbers.js";
import { otherName, state } from "./state.js";
import { inLanguage, sentences, T } from "./texts.js";
import { verdictText, worstSeverity } from "./verdict.js";

/** @type {Record<RunState, string>} */
const STATE_MARKS = { live: "●", ended: "■", broken: "▲" };

/** @param {Meta["run"]} run */
const stateText = (run) =>
  run.state !== "live" && run.end
    ? inLanguage(run.end)
    : T(run.state === "live" && CONFIG.mode === "report" ? "run_was_live" : `run_${run.state}`);

export function drawBar() {
  const { meta } = state;
  const run = meta?.run;
  const worst = run && worstSeverity();
  document.documentElement.lang = look.lang;
  document.title = run ? sentences(run.name, run.script, "seismograd") : "seismograd";
  byId("skip").textContent = T("skip");
  byId("bar").replaceChildren(
    el("h1", {}, "seismograd"),
    run
      ? el(
          "span",
          { class: "about" },
          sentences(
            run.script,
            run.name,
            run.torch ? `PyTorch ${run.torch}` : "",
            state.otherMeta ? T("against", { run: otherName() }) : "",
          ),
        )
      : "",
    run
      ? el(
          "span",
          { class: `badge ${run.state}`, id: "state" },
          `${STATE_MARKS[run.state]} ${stateText(run)}`,
        )
      : "",
    run && meta.rows
      ? el("span", {}, T("steps_seen", { number: count(meta.rows), last: count(meta.steps.last) }))
      : "",
    run && worst ? el("span", { class: `badge ${worst}` }, verdictText()) : "",
    el(
      "span",
      { class: "tools" },
      CONFIG.mode === "view" && run && CONFIG.only === null
        ? el("a", { href: "?", class: "badge" }, T("runs"))
        : "",
      tool("language", look.lang === "en" ? "中文" : "English", T("key_language"), ACTIONS.l),
      tool("theme", look.theme === "dark" ? "☀" : "◐", T("key_dark"), ACTIONS.d),
      run ? tool("tables", T("tables"), T("key_table"), ACTIONS.t) : "",
      tool("help", "?", T("key_help"), ACTIONS["?"]),
    ),
  );
}

/**
 * @param {string} name
 * @param {string} text
 * @param {string} title
 * @param {(event: KeyboardEvent) => void} action
 */
function tool(name, text, title, action) {
  return el(
    "button",
    { type: "button", "data-name": name, title, "aria-label": title, onclick: action },
    text,
  );
}

on("appearance", drawBar);
