// A button of the bar: a sign, and in words what it does.

import { el } from "./dom.js";

/**
 * @param {string} name
 * @param {string} text
 * @param {string} title
 * @param {(event: KeyboardEvent) => void} action
 */
export function tool(name, text, title, action) {
  return el(
    "button",
    { type: "button", "data-name": name, title, "aria-label": title, onclick: action },
    text,
  );
}
