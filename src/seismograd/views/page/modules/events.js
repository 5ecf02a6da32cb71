// What tells the parts of the page that something changed.

/** @import { EventName } from "./types.d.ts" */

/** @type {Map<string, (() => void)[]>} */
const listeners = new Map();

/**
 * Call this whenever one of these (a list with spaces between) has changed.
 *
 * @param {string} names
 * @param {() => void} call
 */
export function on(names, call) {
  for (const name of names.split(" ")) listeners.set(name, [...(listeners.get(name) ?? []), call]);
}

/** @param {EventName} name */
export function emit(name) {
  for (const call of listeners.get(name) ?? []) call();
}
