// Answers as they travel: a JSON header and the arrays behind it. The server and a report use the
// same format.

/** @import { Heat, Line, Meta, PackedMeta, PlanarHeat, Shaped } from "./answers.d.ts" */

const ARRAY_KINDS = {
  Int8: Int8Array,
  Uint8: Uint8Array,
  Int16: Int16Array,
  Uint16: Uint16Array,
  Int32: Int32Array,
  Uint32: Uint32Array,
  Float32: Float32Array,
  Float64: Float64Array,
};

/**
 * @template {object} A
 * @param {A} array
 * @param {number[]} shape
 * @returns {Shaped<A>}
 */
export const shaped = (array, shape) => Object.assign(array, { shape });

/**
 * @param {ArrayBuffer} buffer
 * @returns {any}
 */
export function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  /** @type {Record<string, [keyof typeof ARRAY_KINDS, number[], number]>} */
  const arrays = header.arrays;
  for (const [name, [kind, shape, offset]] of Object.entries(arrays)) {
    const size = shape.reduce((product, each) => product * each, 1);
    header[name] = shaped(new ARRAY_KINDS[kind](buffer, 4 + length + offset, size), shape);
  }
  return header;
}

/**
 * What is known of a run: its parameters as objects, which the answer holds as names and what they
 * have in common.
 *
 * @param {PackedMeta} answer
 * @returns {Meta}
 */
export function asMeta(answer) {
  if (!answer.parameters) {
    answer.parameters = answer.names.map((name, column) => ({
      ...answer.alike[answer.kind[column]],
      name,
      depth: answer.depth[column] < 0 ? null : answer.depth[column],
    }));
    answer.layers = Array.from(answer.layers);
  }
  return /** @type {Meta} */ (answer);
}

/**
 * A heat map whose codes came as two planes of bytes.
 *
 * @param {PlanarHeat} answer
 * @returns {Heat}
 */
export function joined(answer) {
  const { low_bytes: low, high_bytes: high } = answer;
  if (!low || !high) return answer;
  const codes = Int16Array.from(low, (byte, index) => byte | (high[index] << 8));
  answer.codes = shaped(codes, low.shape);
  return answer;
}

/**
 * The line of a parameter as far as the heat map tells it: the largest norm of each column.
 *
 * @param {Heat} heat
 * @param {number} column
 * @returns {Line}
 */
export function fromHeat(heat, column) {
  const width = heat.codes.shape[1];
  const codes = heat.codes.subarray(column * width, (column + 1) * width);
  const high = Float64Array.from(codes, (code) =>
    Math.abs(code) > 32000 ? (code === -32767 ? 0 : NaN) : 10 ** (code / 1000),
  );
  const counts = new Int32Array(5 * width);
  /** @type {Record<number, number>} */
  const kinds = { 32766: 0, [-32768]: 1, [-32767]: 2, 32767: 4 };
  codes.forEach((code, index) => {
    counts[(kinds[code] ?? 3) * width + index] = 1;
  });
  return {
    starts: heat.starts,
    stops: heat.stops,
    counts,
    "grad_norm.high": high,
    "grad_norm.low": high,
  };
}
