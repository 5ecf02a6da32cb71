// The page's words in the language that was chosen.

/** @import { Words } from "./answers.d.ts" */

import { byId } from "./dom.js";
import { look } from "./look.js";

/** @type {Record<string, Record<string, string>>} */
const TEXTS = JSON.parse(byId("texts").textContent);

export const LANGUAGES = Object.keys(TEXTS);

/**
 * A text of the page by its key, with `{name}` replaced by the value of that name.
 *
 * @param {string} key
 * @param {Record<string, unknown>} [values]
 */
export function T(key, values) {
  const text = (TEXTS[look.lang] ?? TEXTS.en)[key];
  if (text === undefined) throw new Error(`no text ${key}`);
  return values
    ? text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole))
    : text;
}

/**
 * A text of the run, which comes in every language.
 *
 * @param {Words | null | undefined} words
 */
export const inLanguage = (words) => (words ? (words[look.lang] ?? words.en) : "");

/** @param {...(string | null | undefined)} parts */
export const sentences = (...parts) => parts.filter((part) => part).join(" · ");
