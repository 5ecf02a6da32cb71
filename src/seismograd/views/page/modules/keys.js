// Everything by keyboard; `?` shows the list.

import { setLanguage, setTheme } from "./appearance.js";
import { setCursor, setWindow, zoom } from "./cursor.js";
import { byId, el } from "./dom.js";
import { emit } from "./events.js";
import { nextFinding } from "./finding_timeline.js";
import { look } from "./look.js";
import { clamp } from "./numbers.js";
import { panels, tell } from "./panel.js";
import { currentMeta, state } from "./state.js";
import { LANGUAGES, T } from "./texts.js";

const KEYS = [
  ["← →", "key_step"],
  ["Shift ← →", "key_far"],
  ["Home End", "key_ends"],
  ["↑ ↓", "key_parameter"],
  ["[ ]", "key_zoom"],
  ["0", "key_whole"],
  ["n p", "key_finding"],
  ["/", "key_filter"],
  ["s", "key_sort"],
  ["g", "key_group"],
  ["c", "key_scale"],
  ["t", "key_table"],
  ["l", "key_language"],
  ["d", "key_dark"],
  ["?", "key_help"],
  ["Esc", "key_escape"],
];

/** @param {number} direction */
function moveParameter(direction) {
  const columns = state.rows.flatMap((row) => (row.group ? [row.columns[0]] : row.columns));
  const now = state.rows.findIndex((row) => row.columns.includes(state.column));
  if (columns.length) setCursor(state.row, columns[clamp(now + direction, 0, columns.length - 1)]);
}

/** @param {string} name */
function cycle(name) {
  const select = document.querySelector(`select[data-name="${name}"]`);
  if (!(select instanceof HTMLSelectElement)) return;
  select.selectedIndex = (select.selectedIndex + 1) % select.options.length;
  select.dispatchEvent(new Event("change"));
  tell(select.options[select.selectedIndex].text);
}

const far = () => Math.max(1, Math.round((state.stop - state.start) / 20));

/** @type {Record<string, (event: KeyboardEvent) => void>} */
export const ACTIONS = {
  ArrowLeft: (event) => setCursor(state.row - (event.shiftKey ? far() : 1)),
  ArrowRight: (event) => setCursor(state.row + (event.shiftKey ? far() : 1)),
  ArrowUp: () => moveParameter(-1),
  ArrowDown: () => moveParameter(1),
  Home: () => setCursor(0),
  End: () => setCursor(currentMeta().rows - 1),
  "[": () => zoom(2),
  "]": () => zoom(0.5),
  0: () => setWindow(0, currentMeta().rows),
  n: () => nextFinding(1),
  p: () => nextFinding(-1),
  "/": () => byId("filter").focus(),
  s: () => cycle("sort"),
  g: () => cycle("group"),
  c: () => cycle("scale"),
  t: () => {
    const all = [...panels];
    const on = !all.every((each) => each.asTable);
    for (const each of all) each.asTable = on;
    emit("tables");
  },
  l: () => setLanguage(LANGUAGES[(LANGUAGES.indexOf(look.lang) + 1) % LANGUAGES.length]),
  d: () => setTheme(look.theme === "dark" ? "light" : "dark"),
  "?": () => showHelp(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (!(event.target instanceof Element)) return;
  const field = event.target.closest("input, select, textarea, dialog");
  if (field) {
    if (event.key === "Escape" && field.id === "filter") {
      event.preventDefault();
      if (field instanceof HTMLElement) field.blur();
    }
    return;
  }
  if (event.target.closest(".scroll") && event.key.startsWith("Arrow")) return; // a table scrolls
  const action = ACTIONS[event.key];
  if (!action || (!state.meta && !["l", "d", "?"].includes(event.key))) return;
  event.preventDefault();
  action(event);
});

function showHelp() {
  const help = /** @type {HTMLDialogElement} */ (byId("help"));
  help.setAttribute("aria-label", T("keys"));
  help.replaceChildren(
    el("h2", {}, T("keys")),
    el(
      "table",
      {},
      el(
        "tbody",
        {},
        ...KEYS.map(([keys, text]) =>
          el(
            "tr",
            {},
            el("td", {}, ...keys.split(" ").flatMap((key) => [el("kbd", {}, key), " "])),
            el("td", {}, T(text)),
          ),
        ),
      ),
    ),
    el("p", { class: "dim" }, T("help_mouse")),
    el("p", { class: "dim" }, T("help_honest")),
    el("form", { method: "dialog" }, el("button", {}, T("close"))),
  );
  help.showModal();
}
