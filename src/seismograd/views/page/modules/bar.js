// The bar at the top: what run this is, how it is, and the page's tools.

import { byId, el } from "./dom.js";
import { on } from "./events.js";
import { ACTIONS } from "./keys.js";
import { CONFIG, look } from "./look.js";
import { runBadges } from "./run_badges.js";
import { otherName, state } from "./state.js";
import { sentences, T } from "./texts.js";
import { tool } from "./tool_button.js";

export function drawBar() {
  const { meta } = state;
  const run = meta?.run;
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
    ...(run ? runBadges(meta, CONFIG.mode !== "report") : []),
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

on("appearance", drawBar);
