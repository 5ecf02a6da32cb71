// How the page is served, and the reader's choices of language and colours, which the browser
// remembers.

import { byId } from "./dom.js";

/** @type {{ mode: "view" | "report", lang: string, only: number | null }} */
export const CONFIG = JSON.parse(byId("config").textContent);

export const look = {
  lang: remembered("lang", CONFIG.lang),
  theme: remembered("theme", matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"),
};

/**
 * @param {string} name
 * @param {string} otherwise
 */
function remembered(name, otherwise) {
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
  try {
    localStorage.setItem(`seismograd.${name}`, value);
  } catch {
    // a page from disk may not be allowed to
  }
}
