// Elements of the page. Text goes through text nodes, never through markup.

/** @import { Attribute, Child } from "./types.d.ts" */

import { place } from "./place.js";

/**
 * An element that the page always has.
 *
 * @param {string} id
 */
export function byId(id) {
  const found = place.root.getElementById(id);
  if (!found) throw new Error(`no element ${id}`);
  return found;
}

/**
 * A new element. What is null, undefined or "" among the children is left out; an attribute that
 * begins with `on` is a listener.
 *
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, Attribute>} [attributes]
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function el(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") {
      made.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
    } else if (name === "value" && "value" in made) made.value = String(value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children) {
    if (child !== null && child !== undefined && child !== "") made.append(child);
  }
  return made;
}

/**
 * What was chosen in the `<select>` that an event is of.
 *
 * @param {Event} event
 */
export const chosenValue = (event) => /** @type {HTMLSelectElement} */ (event.target).value;
