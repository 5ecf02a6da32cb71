// The controls above the panels: by what the parameters are filtered, sorted and grouped.

/** @import { State } from "./types.d.ts" */

import { byId, chosenValue, el } from "./dom.js";
import { emit, on } from "./events.js";
import { listRows } from "./parameter_list.js";
import { place } from "./place.js";
import { state } from "./state.js";
import { T } from "./texts.js";
import { later } from "./timing.js";

const SORTS = ["depth", "norm", "trouble", "name"];

const GROUPS = [0, 1, 2, 3];

const KINDS = ["auto", "matrix", "vector", "all"];

const input = el("input", {
  id: "filter",
  type: "text",
  autocomplete: "off",
  spellcheck: "false",
});
input.addEventListener(
  "input",
  later(() => {
    state.filter = input.value;
    relist();
  }, 120),
);
const word = el("span");
const label = el("label", { class: "filter" }, word, input);

/** List the parameters anew, after what they are filtered, sorted or grouped by has changed. */
export function relist() {
  const before = state.column;
  listRows();
  drawFilters();
  emit("rows");
  // the one before may not be listed any more
  if (state.column !== before) {
    emit("cursor");
    emit("column");
  }
}

export function drawFilters() {
  const root = byId("filters");
  if (!state.meta?.rows) {
    root.replaceChildren();
    return;
  }
  const deepest = Math.max(
    0,
    ...state.meta.parameters.map((each) => each.name.split(".").length - 1),
  );
  /**
   * @param {string} name
   * @param {(string | number)[]} options
   * @param {string | number} value
   * @param {(value: string) => void} change
   */
  const select = (name, options, value, change) =>
    el(
      "label",
      {},
      T(`choose_${name}`),
      el(
        "select",
        {
          "data-name": name,
          onchange: (event) => {
            change(chosenValue(event));
            relist();
          },
        },
        ...options.map((each) =>
          el("option", { value: String(each), selected: each === value }, T(`${name}_${each}`)),
        ),
      ),
    );
  const focused = place.root.activeElement === input;
  if (input.value !== state.filter && !focused) input.value = state.filter;
  input.setAttribute("placeholder", T("filter_hint"));
  root.setAttribute("aria-label", T("filter"));
  word.textContent = T("filter");
  if (!label.isConnected) root.replaceChildren(label);
  for (const other of [...root.children]) if (other !== label) other.remove();
  root.append(
    select("sort", SORTS, state.sort, (value) => {
      state.sort = /** @type {State["sort"]} */ (value);
    }),
    select(
      "group",
      GROUPS.filter((each) => each <= deepest),
      state.group,
      (value) => {
        state.group = Number(value);
      },
    ),
    select("kind", KINDS, state.kind, (value) => {
      state.kind = /** @type {State["kind"]} */ (value);
    }),
    el(
      "span",
      { class: "dim", id: "listed" },
      T("of_parameters", {
        listed: state.rows.reduce((sum, row) => sum + row.columns.length, 0),
        all: state.meta.parameters.length,
      }),
    ),
  );
}

on("appearance", drawFilters);
