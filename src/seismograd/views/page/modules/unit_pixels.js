// The gradient of one unit as pixels: blue is negative, red is positive.

/** @import { UnitPictures } from "./answers.d.ts" */
/** @import { Paints } from "./types.d.ts" */

import { penOf } from "./canvas.js";
import { along, DIVERGING, packed } from "./colours.js";
import { special } from "./heat_colours.js";

const PLANE_GAP = 1; // pixels between the planes of a unit
const NOT_FINITE = -128;

/**
 * How many numbers a picture is wide and high, with the gaps between its planes.
 *
 * @param {UnitPictures} found
 */
export function pictureSize(found) {
  const [, planes, height, width] = found.codes.shape;
  return { wide: planes * (width + PLANE_GAP) - PLANE_GAP, high: height };
}

/**
 * Draw a unit's numbers, each as a square of `scale` pixels.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {UnitPictures} found
 * @param {number} at
 * @param {[number, number]} scale
 * @param {Paints} patterns
 */
export function drawUnit(canvas, found, at, [across, down], patterns) {
  const [, planes, height, width] = found.codes.shape;
  const { wide, high } = pictureSize(found);
  canvas.width = wide * across;
  canvas.height = high * down;
  const image = new ImageData(canvas.width, canvas.height);
  const pixels = new Int32Array(image.data.buffer);
  const codes = found.codes.subarray(
    at * planes * height * width,
    (at + 1) * planes * height * width,
  );
  codes.forEach((code, index) => {
    const plane = Math.floor(index / (height * width));
    const row = Math.floor(index / width) % height;
    const left = (plane * (width + PLANE_GAP) + (index % width)) * across;
    for (let y = row * down; y < (row + 1) * down; y += 1)
      for (let x = left; x < left + across; x += 1)
        pixels[y * canvas.width + x] = unitColour(code, x, y, patterns);
  });
  penOf(canvas).putImageData(image, 0, 0);
}

const RED_BLUE = Array.from({ length: 255 }, (_, code) => packed(along(DIVERGING, code / 254)));

/**
 * @param {number} code
 * @param {number} x
 * @param {number} y
 * @param {Paints} patterns
 */
function unitColour(code, x, y, patterns) {
  if (code === NOT_FINITE) return special(32767, x, y, patterns);
  return code === 0 ? patterns.absent : RED_BLUE[code + 127];
}
