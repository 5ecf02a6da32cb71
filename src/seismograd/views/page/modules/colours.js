// Colours: those of the style sheet, so that there is one place for them, and the scales of the
// heat maps.

/** @import { Rgb } from "./types.d.ts" */

import { place } from "./place.js";

// Colours: read from the style sheet, so that there is one place for them.
/** @type {Record<string, string>} */
export const shades = {};

export function readColours() {
  if (!place.element.isConnected) return; // it has none
  const style = getComputedStyle(place.element);
  for (const name of [
    "back",
    "panel",
    "line",
    "grid",
    "text",
    "dim",
    "accent",
    "error",
    "warning",
    "info",
    "good",
    "nan",
    "nan-dark",
    "zero",
    "absent",
    "absent-line",
    "nothing",
    "before",
    "after",
    "limit",
    "loss",
    "lr",
    "other",
    "cursor",
    "shade",
  ]) {
    shades[name] = style.getPropertyValue(`--${name}`).trim();
  }
}

export const VIRIDIS = [
  "440154",
  "48186a",
  "472d7b",
  "424086",
  "3b528b",
  "33638d",
  "2c728e",
  "26828e",
  "21918c",
  "1fa088",
  "28ae80",
  "3fbc73",
  "5ec962",
  "84d44b",
  "addc30",
  "d8e219",
  "fde725",
].map(rgb);

export const DIVERGING = ["2166ac", "67a9cf", "d1e5f0", "f7f7f7", "fddbc7", "ef8a62", "b2182b"].map(
  rgb,
);

/**
 * @param {string} hex
 * @returns {Rgb}
 */
export function rgb(hex) {
  const digits = hex.replace("#", "");
  return [0, 2, 4].map((at) => parseInt(digits.slice(at, at + 2), 16));
}

/**
 * @param {Rgb[]} colours
 * @param {number} share
 */
export function along(colours, share) {
  const place = Math.max(0, Math.min(1, share)) * (colours.length - 1);
  const low = Math.min(Math.floor(place), colours.length - 2);
  return colours[low].map((value, index) =>
    Math.round(value + (colours[low + 1][index] - value) * (place - low)),
  );
}

/** @param {Rgb} colour */
export const packed = ([red, green, blue]) => (255 << 24) | (blue << 16) | (green << 8) | red;

/**
 * @param {string} colour
 * @param {number} alpha
 */
export function fade(colour, alpha) {
  const [red, green, blue] = rgb(colour);
  return `rgba(${red}, ${green}, ${blue}, ${alpha})`;
}
