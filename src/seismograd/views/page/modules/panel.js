// A panel: a title, a picture, and the same as a table that can be copied as CSV.

/** @import { PanelParts } from "./types.d.ts" */

import { byId, el } from "./dom.js";
import { on } from "./events.js";
import { place } from "./place.js";
import { state } from "./state.js";
import { copied, csv, fillTable } from "./table.js";
import { T } from "./texts.js";
import { later } from "./timing.js";

/**
 * Every panel there is, whether the page shows it or not.
 *
 * @type {Panel[]}
 */
export const panels = [];

export class Panel {
  /**
   * @param {string} id
   * @param {PanelParts} parts
   */
  constructor(id, parts) {
    this.id = id;
    this.parts = parts;
    this.asTable = false;
    this.root = el("section", { class: "panel", id, "aria-labelledby": `${id}-title` });
    this.head = el("header");
    this.body = el("div", { class: "body" });
    this.tableBody = el("div", { class: "scroll", tabindex: "0", hidden: true });
    this.root.append(this.head, this.body, this.tableBody);
    panels.push(this);
    on(`${parts.on} look tables`, () => this.refresh());
  }

  /** Draw it anew, soon and together with others that ask for it. */
  refresh() {
    waiting.add(this);
    drawSoon();
  }
}

/** @type {Set<Panel>} */
const waiting = new Set();

// What is read of the layout is read between what is written, once.
const drawSoon = later(() => {
  const now = [...waiting].filter((made) => state.meta && made.root.isConnected);
  waiting.clear();
  now.forEach(drawHead);
  const rooms = now.map((made) => made.body.clientWidth);
  now.forEach((made, index) => {
    if (made.asTable) fillTable(made.tableBody, T(made.parts.title), made.parts.table());
    else made.parts.draw(made.body, rooms[index]);
  });
}, 0);

/** @param {Panel} made */
function drawHead(made) {
  const focused = made.head.contains(place.root.activeElement)
    ? place.root.activeElement?.getAttribute("data-name")
    : null;
  made.head.replaceChildren(
    el("h2", { id: `${made.id}-title` }, T(made.parts.title)),
    el("span", { class: "sub" }, made.parts.sub()),
    el(
      "span",
      { class: "own" },
      ...(made.parts.own && !made.asTable ? made.parts.own() : []),
      ...(made.asTable ? [copyButton(made)] : []),
      tableButton(made),
    ),
  );
  if (focused) {
    const again = made.head.querySelector(`[data-name="${focused}"]`);
    if (again instanceof HTMLElement) again.focus();
  }
  made.body.hidden = made.asTable;
  made.tableBody.hidden = !made.asTable;
}

/** @param {Panel} made */
function tableButton(made) {
  return el(
    "button",
    {
      type: "button",
      "data-name": "table",
      "aria-label": T("table_of", { panel: T(made.parts.title) }),
      "aria-pressed": String(made.asTable),
      onclick: () => {
        made.asTable = !made.asTable;
        made.refresh();
      },
    },
    T("table"),
  );
}

/** @param {Panel} made */
function copyButton(made) {
  return el(
    "button",
    {
      type: "button",
      "data-name": "copy",
      onclick: async () => {
        const { head, rows } = made.parts.table();
        const text = [head, ...rows].map((row) => row.map(csv).join(",")).join("\n");
        const done = await copied(text);
        tell(T(done ? "copied" : "not_copied"));
      },
    },
    T("copy_csv"),
  );
}

/** @param {string} text */
export function tell(text) {
  byId("say").textContent = text;
}

/**
 * @param {HTMLElement} body
 * @param {string} text
 */
export function nothing(body, text) {
  body.replaceChildren(el("p", { class: "nothing" }, text));
}
