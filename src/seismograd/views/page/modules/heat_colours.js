// From the codes of a heat map to pixels.

/** @import { Paints, Rgb } from "./types.d.ts" */

import { along, packed, rgb, shades } from "./colours.js";
import { LOWEST } from "./heat_codes.js";

/**
 * The picture of such codes, `high` pixels high, and above which pixels there is a mark. One of
 * that size from before is used again.
 *
 * @param {Int32Array} codes
 * @param {number} wide
 * @param {number} high
 * @param {number} bins
 * @param {[number, number]} scale
 * @param {Rgb[]} palette
 * @param {ImageData | null} before
 */
export function colourCodes(codes, wide, high, bins, [low, top], palette, before) {
  const colours = lookUp(low, top, palette);
  const image =
    before?.width === wide && before.height === high ? before : new ImageData(wide, high);
  const pixels = new Int32Array(image.data.buffer);
  if (image === before) pixels.fill(0);
  const marks = new Uint8Array(wide);
  const patterns = paints();
  for (let bin = 0; bin < bins; bin += 1) {
    const from = Math.round((bin * high) / bins),
      to = Math.round(((bin + 1) * high) / bins),
      base = bin * wide;
    let isPlain = true;
    for (let x = 0, at = from * wide; x < wide; x += 1, at += 1) {
      const code = codes[base + x];
      if (code >= -32000 && code <= 32000) pixels[at] = colours[code + 32768];
      else if (code !== LOWEST) isPlain = false;
    }
    for (let y = from + 1; y < to; y += 1)
      pixels.copyWithin(y * wide, from * wide, (from + 1) * wide);
    if (!isPlain) drawStates(codes, base, pixels, wide, from, to, patterns, marks);
  }
  return { image, marks };
}

/**
 * @param {Int32Array} codes
 * @param {number} base
 * @param {Int32Array} pixels
 * @param {number} wide
 * @param {number} from
 * @param {number} to
 * @param {Paints} patterns
 * @param {Uint8Array} marks
 */
function drawStates(codes, base, pixels, wide, from, to, patterns, marks) {
  for (let x = 0; x < wide; x += 1) {
    const code = codes[base + x];
    if ((code >= -32000 && code <= 32000) || code === LOWEST) continue;
    if (code === 32767) marks[x] = 1;
    for (let y = from; y < to; y += 1) pixels[y * wide + x] = special(code, x, y, patterns);
  }
}

// The colour of every code there is, so that a pixel is one look-up.
const colourOf = new Int32Array(65536);

/**
 * @param {number} low
 * @param {number} high
 * @param {Rgb[]} colours
 */
function lookUp(low, high, colours) {
  const shown = Int32Array.from({ length: 256 }, (_, index) => packed(along(colours, index / 255)));
  const scale = 255 / (high - low);
  for (let code = -32000; code <= 32000; code += 1) {
    colourOf[code + 32768] =
      shown[code <= low ? 0 : code >= high ? 255 : Math.round((code - low) * scale)];
  }
  return colourOf;
}

/**
 * Not by colour alone: hatched, dotted, striped.
 *
 * @param {number} code
 * @param {number} x
 * @param {number} y
 * @param {Paints} paint
 */
export function special(code, x, y, paint) {
  if (code === 32767) return (x + y) % 6 < 2 ? paint.nanDark : paint.nan;
  if (code === -32767) return x % 6 === 2 && y % 6 === 2 ? paint.dot : paint.zero;
  if (code === -32768) return y % 4 === 1 ? paint.absentLine : paint.absent;
  return 0;
}

/** @returns {Paints} */
export function paints() {
  /** @param {string} name */
  const of = (name) => packed(rgb(shades[name]));
  return {
    nan: of("nan"),
    nanDark: of("nan-dark"),
    zero: of("zero"),
    dot: of("dim"),
    absent: of("absent"),
    absentLine: of("absent-line"),
  };
}
