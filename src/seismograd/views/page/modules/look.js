// How the page is served, and the reader's choices of language and colours, which the browser
// remembers.

import { byId } from "./dom.js";

/**
 * `theme`: what a notebook shows around a widget.
 *
 * @type {{ mode: "view" | "report" | "widget", lang: string, only: number | null, theme?: string }}
 */
export const CONFIG = JSON.parse(byId("config").textContent);

export const look = {
  lang: remembered("lang", CONFIG.lang),
  theme: remembered(
    "theme",
    CONFIG.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"),
  ),
};

/**
 * @param {string} name
 * @param {string} otherwise
 */
function remembered(name, otherwise) {
  if (CONFIG.mode === "widget") return otherwise; // it goes with its notebook
  try {
    return localStorage.getItem(`seismograd.${name}`) ?? otherwise;
  } catch {
    return otherwise;
  }
}

/**
 * @param {string} name
 * @param {string} value
 */
export function remember(name, value) {
  if (CONFIG.mode === "widget") return;
  try {
    localStorage.setItem(`seismograd.${name}`, value);
  } catch {
    // a page from disk may not be allowed to
  }
}
