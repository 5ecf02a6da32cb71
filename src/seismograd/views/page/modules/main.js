// Puts the page together: a report, a run of the server, or the list of its runs.

import { drawBar } from "./bar.js";
import { readColours } from "./colours.js";
import { connected } from "./connection.js";
import { emit } from "./events.js";
import { CONFIG, look } from "./look.js";
import { widthOf } from "./questions.js";
import { ReportSource } from "./report_source.js";
import { showRun } from "./run_view.js";
import { showRuns } from "./runs.js";
import { ServerSource } from "./server_source.js";
import { state } from "./state.js";
import { later } from "./timing.js";

window.addEventListener(
  "resize",
  later(() => emit("look"), 120),
);

window.addEventListener("beforeprint", () => emit("look"));

async function openPage() {
  document.documentElement.dataset.theme = look.theme;
  readColours();
  drawBar();
  try {
    if (CONFIG.mode === "report") return await showRun(await ReportSource.open(), null);
    const wanted = new URLSearchParams(location.search);
    const run = wanted.get("run") ?? CONFIG.only;
    if (run === null) return await showRuns();
    const source = new ServerSource(Number(run));
    source.lookAhead(widthOf(), state.statistic, state.which);
    return await showRun(
      source,
      wanted.has("with") ? new ServerSource(Number(wanted.get("with"))) : null,
    );
  } catch (error) {
    connected(false, error);
    throw error;
  }
}

openPage();
