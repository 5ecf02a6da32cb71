// The page of one run: its panels, and taking in what is new of it.

/** @import { Meta } from "./answers.d.ts" */
/** @import { Source } from "./types.d.ts" */

import { sayStep } from "./announcer.js";
import { drawBar } from "./bar.js";
import { connected } from "./connection.js";
import { rowOf } from "./cursor.js";
import { byId, el } from "./dom.js";
import { emit, on } from "./events.js";
import { drawFilters } from "./filters.js";
import { beginAt } from "./finding_timeline.js";
import { findingsPanel } from "./findings.js";
import { heatPanel } from "./heat.js";
import { lanesPanel } from "./lanes.js";
import { Live } from "./live.js";
import { CONFIG } from "./look.js";
import { parameterPanel } from "./parameter.js";
import { layersNow, profilePanel } from "./profile.js";
import { askStep, askWindow } from "./questions.js";
import { listGrownRows, takeIn } from "./run_growth.js";
import { scalarsPanel } from "./scalars.js";
import { seismogramPanel } from "./seismogram.js";
import { ServerSource } from "./server_source.js";
import { signalsPanel } from "./signals.js";
import { spreadPanel } from "./spread.js";
import { state } from "./state.js";
import { sentences, T } from "./texts.js";
import { picturesPanel } from "./unit_pictures.js";

on("step cursor look", sayStep);
on("meta rows", () => {
  if (state.meta) drawBar();
});

/**
 * A panel about what this run has none of takes no room.
 *
 * @param {Meta} meta
 */
function hideEmpty(meta) {
  spreadPanel.root.hidden = meta.rows > 0 && !meta.sampled;
  signalsPanel.root.hidden = !meta.signals;
  picturesPanel.root.hidden = !meta.pictures.length;
  profilePanel.root.hidden = meta.rows > 0 && !layersNow().length;
}

/** @param {Meta} meta */
function takeMeta(meta) {
  if (takeIn(meta)) {
    const worst = meta.findings[0];
    const wanted = new URLSearchParams(location.search);
    const step = Number(wanted.get("step") ?? NaN);
    if (wanted.has("param"))
      state.column = meta.parameters.findIndex((each) => each.name === wanted.get("param"));
    if (Number.isFinite(step) && meta.rows) {
      state.row = rowOf(step);
      state.follow = false;
    } else if (worst && (CONFIG.mode === "report" || meta.run.state !== "live")) {
      beginAt(worst);
    }
  }
  hideEmpty(meta);
  listGrownRows();
  drawFilters();
  emit("meta");
  if (state.heat) askStep(); // else behind the heat map
  askWindow();
}

const PANELS = [
  seismogramPanel,
  findingsPanel,
  heatPanel,
  profilePanel,
  signalsPanel,
  scalarsPanel,
  spreadPanel,
  parameterPanel,
  picturesPanel,
  lanesPanel,
];

/**
 * @param {Source} source
 * @param {Source | null} other
 */
export async function showRun(source, other) {
  state.source = source;
  state.other = other;
  if (other) {
    state.otherMeta = await other.meta();
    state.difference = true;
  }
  byId("main").replaceChildren(...PANELS.map((each) => each.root), footer());
  takeMeta(await source.meta());
  if (source instanceof ServerSource) follow(source);
}

/**
 * Ask anew whenever the server says that there is more of the run.
 *
 * @param {ServerSource} source
 */
function follow(source) {
  let busy = false,
    waiting = false;
  const refetch = async () => {
    if (busy) {
      waiting = true;
      return;
    }
    busy = true;
    try {
      takeMeta(await source.meta());
    } catch (error) {
      connected(false, error);
    }
    busy = false;
    if (waiting) {
      waiting = false;
      refetch();
    }
  };
  new Live(source.index, (news) => {
    if (news.version === source.version) return;
    const first = source.version === "";
    source.renew(news.version);
    if (!first || news.rows !== state.meta?.rows || news.state !== state.meta.run.state) refetch();
  });
}

function footer() {
  const words = el("footer", { class: "panel dim" });
  const draw = () => {
    const run = state.meta?.run;
    words.replaceChildren(
      sentences(
        T("footer"),
        run
          ? sentences(
              run.created,
              `seismograd ${run.seismograd}`,
              `Python ${run.python}`,
              T("level", { level: run.level }),
            )
          : "",
      ),
    );
  };
  on("meta look", draw);
  return words;
}
