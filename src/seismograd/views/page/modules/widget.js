// A view of the widget: the heat map, the lines of norm and loss, and the findings, from the answers
// that the kernel puts into the widget's state. They stay there when the kernel is gone.

import { sayStep } from "./announcer.js";
import { setLanguage, setTheme } from "./appearance.js";
import { readColours } from "./colours.js";
import { connected } from "./connection.js";
import { byId, el } from "./dom.js";
import { emit, on } from "./events.js";
import { drawFilters } from "./filters.js";
import { beginAt } from "./finding_timeline.js";
import { findingsPanel } from "./findings.js";
import { heatPanel } from "./heat.js";
import { endPlots } from "./lines.js";
import { look } from "./look.js";
import { nothing } from "./panel.js";
import { place } from "./place.js";
import { askStep, askWindow } from "./questions.js";
import { ReportSource } from "./report_source.js";
import { runBadges } from "./run_badges.js";
import { listGrownRows, takeIn } from "./run_growth.js";
import { scalarsPanel } from "./scalars.js";
import { state } from "./state.js";
import { LANGUAGES, T } from "./texts.js";
import { later } from "./timing.js";
import { tool } from "./tool_button.js";

const QUIET_MS = 60_000; // a run of which nothing has come for so long may be one of a dead kernel

const OUT_OF_SIGHT_MS = 250; // between two looks whether it is shown again

const SHOWN_IN_WIDGET = [heatPanel, scalarsPanel, findingsPanel];

const { model } = place;

let isNews = true;
let isThemeChosen = false;

const doubt = later(() => {
  isNews = false;
  drawWidgetBar();
}, QUIET_MS);

function drawWidgetBar() {
  const { meta } = state;
  place.element.lang = look.lang;
  byId("bar").replaceChildren(
    el("h1", {}, "seismograd"),
    meta ? el("span", { class: "about" }, meta.run.name) : "",
    ...(meta ? runBadges(meta, isNews) : []),
    el(
      "span",
      { class: "tools" },
      tool("language", look.lang === "en" ? "中文" : "English", T("key_language"), () =>
        setLanguage(LANGUAGES[(LANGUAGES.indexOf(look.lang) + 1) % LANGUAGES.length]),
      ),
      tool("theme", look.theme === "dark" ? "☀" : "◐", T("key_dark"), () => {
        isThemeChosen = true;
        setTheme(look.theme === "dark" ? "light" : "dark");
      }),
    ),
  );
  if (!meta) nothing(byId("main"), T("verdict_nothing"));
}

/** @param {BlobPart} bytes */
async function takeAnswers(bytes) {
  const source = await ReportSource.of(bytes);
  const meta = await source.meta();
  if (!state.meta) byId("main").replaceChildren(...SHOWN_IN_WIDGET.map((each) => each.root));
  state.source = source;
  const isFirst = takeIn(meta);
  if (isFirst && meta.rows && meta.findings.length && meta.run.state !== "live")
    beginAt(meta.findings[0]);
  listGrownRows();
  drawFilters();
  drawWidgetBar();
  emit("meta");
  if (state.heat) askStep(); // else behind the heat map
  askWindow();
}

const coming = { isBusy: false, isMore: false, later: 0 };

async function takeNews() {
  clearTimeout(coming.later);
  if (!place.element.isConnected) {
    coming.later = setTimeout(takeNews, OUT_OF_SIGHT_MS); // what is not there cannot be drawn
    return;
  }
  const bytes = model?.get("answers");
  if (!bytes?.byteLength) return;
  if (coming.isBusy) {
    coming.isMore = true;
    return;
  }
  coming.isBusy = true;
  isNews = true;
  doubt();
  try {
    await takeAnswers(bytes);
  } catch (error) {
    connected(false, error);
  } finally {
    coming.isBusy = false;
    if (coming.isMore) {
      coming.isMore = false;
      takeNews();
    }
  }
}

let widthBefore = 0;
const fitSoon = later(() => {
  readColours(); // it may have been taken out of the notebook, and come back
  emit("look");
}, 120);
const sized = new ResizeObserver(() => {
  const width = place.element.clientWidth;
  if (width !== widthBefore) fitSoon(); // its height follows what is drawn
  widthBefore = width;
});

place.follow = (theme) => {
  if (!isThemeChosen && theme !== look.theme) setTheme(theme);
};

place.end = () => {
  model?.off("change:answers", takeNews);
  clearTimeout(coming.later);
  sized.disconnect();
  endPlots();
};

on("step cursor look", sayStep);
on("appearance", drawWidgetBar);
readColours();
drawWidgetBar();
sized.observe(place.element);
model?.on("change:answers", takeNews);
takeNews();
