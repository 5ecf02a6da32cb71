// A panel as a table, and as CSV for the clipboard.

/** @import { CellValue, TableContent } from "./types.d.ts" */

import { el } from "./dom.js";
import { count, fmt } from "./numbers.js";
import { T } from "./texts.js";

/** @param {CellValue} value */
export function csv(value) {
  const text =
    typeof value === "number"
      ? String(value).replace("NaN", "nan").replace("Infinity", "inf")
      : String(value ?? "");
  // a spreadsheet would take it for a formula
  const safe = /^[=+@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replace(/"/g, '""')}"` : safe;
}

/** @param {string} text */
export async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // a page from disk has no clipboard: the old way
  }
  const area = el("textarea", { value: text });
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

const MOST_TABLE_ROWS = 1000;

/**
 * @param {HTMLElement} root
 * @param {string} title
 * @param {TableContent} content
 */
export function fillTable(root, title, content) {
  const { head, rows } = content;
  const shown = rows.slice(0, MOST_TABLE_ROWS);
  const looked = shown.slice(0, 50);
  const words = head.map(
    (_, column) =>
      !looked.some((row) => typeof row[column] === "number") &&
      looked.some((row) => !["", "–"].includes(String(row[column] ?? ""))),
  );
  /**
   * @param {CellValue} value
   * @param {number} column
   */
  const cell = (value, column) => {
    const text = typeof value === "number" ? fmt(value, 6) : String(value ?? "");
    const bad = text === "nan" || text === "inf" || text === "-inf" || text === T("state_4");
    const style = bad ? "nonfinite" : text.length > 60 ? "long" : "";
    return el("td", { class: `${style} ${words[column] ? "words" : ""}`.trim() || null }, text);
  };
  root.replaceChildren(
    el(
      "table",
      {},
      el("caption", { class: "skip" }, title),
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          ...head.map((each, column) =>
            el("th", { scope: "col", class: words[column] ? "words" : null }, each),
          ),
        ),
      ),
      el("tbody", {}, ...shown.map((row) => el("tr", {}, ...row.map(cell)))),
    ),
    rows.length > shown.length
      ? el("p", { class: "dim" }, T("table_cut", { number: count(rows.length) }))
      : "",
  );
}
