// What is known of a call of the loop.

/** @import { JsonNumber, LoopEvent } from "./answers.d.ts" */

import { asNumber } from "./numbers.js";
import { currentMeta } from "./state.js";
import { sentences } from "./texts.js";

/** @param {JsonNumber} value */
export const dash = (value) => (Number.isNaN(asNumber(value)) ? "–" : asNumber(value));

/**
 * Milliseconds between a call and the one before it, NaN where that is not here. A backward is
 * heard when it begins, the others when they end.
 *
 * @param {LoopEvent[]} events
 * @param {number} index
 */
export function since(events, index) {
  if (index === 0) return NaN;
  const [before, now] = [events[index - 1], events[index]].map((each) =>
    Number(asNumber(each.time_s)),
  );
  return Number((1e3 * (now - before)).toPrecision(3));
}

/**
 * Another loss of the same forward has none of its own before it.
 *
 * @param {LoopEvent} event
 */
export const hasForward = (event) =>
  event.kind === "BACKWARD" && !(event.flags & currentMeta().event_flags.SHARED);

/** @param {LoopEvent} event */
export function siteOf(event) {
  const site = currentMeta().sites[event.site];
  return site ? sentences(site.where, site.label) : "";
}

/** @param {LoopEvent} event */
export const flagsOf = (event) =>
  Object.entries(currentMeta().event_flags)
    .filter(([, bit]) => event.flags & bit)
    .map(([name]) => name.toLowerCase())
    .join(" ");
