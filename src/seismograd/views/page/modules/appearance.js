// The language and the colours of the page.

import { readColours } from "./colours.js";
import { emit } from "./events.js";
import { look, remember } from "./look.js";
import { place } from "./place.js";

/** @param {string} lang */
export function setLanguage(lang) {
  look.lang = lang;
  remember("lang", lang);
  redraw();
}

/** @param {string} theme */
export function setTheme(theme) {
  look.theme = theme;
  remember("theme", theme);
  redraw();
}

function redraw() {
  place.element.dataset.theme = look.theme;
  readColours();
  emit("appearance");
  emit("look");
}
