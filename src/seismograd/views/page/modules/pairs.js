// Which parameter of the run that this one is compared with is which of this one's.

/** @import { Meta, Parameter } from "./answers.d.ts" */

import { isMatrix } from "./parameter_list.js";
import { currentMeta, state } from "./state.js";

/**
 * The column there of each column here, -1 for none; and whether that goes by order and shape.
 *
 * @typedef {{ columns: number[], byOrder: boolean, num: number }} Pairs
 */

/** @param {Parameter} parameter */
const shapeOf = ({ shape }) => shape.join();

/**
 * What two parameters share that stand at the same place of two networks.
 *
 * @param {Parameter} parameter
 */
const roleOf = (parameter) =>
  [shapeOf(parameter), parameter.module, parameter.name.split(".").at(-1)].join(" ");

/**
 * By name where most weights of the smaller run have a partner of their name and shape; else the
 * first of each role with the first, the second with the second, in the order of execution.
 *
 * @param {Parameter[]} mine
 * @param {Parameter[]} theirs
 * @returns {Pairs}
 */
function pairUp(mine, theirs) {
  const places = new Map(theirs.map((each, column) => [each.name, column]));
  const named = mine.map((each) => {
    const there = places.get(each.name) ?? -1;
    return there >= 0 && shapeOf(theirs[there]) === shapeOf(each) ? there : -1;
  });
  // what is numbered has partners by chance, above all biases
  const isTelling = mine.some(isMatrix) && theirs.some(isMatrix) ? isMatrix : () => true;
  const num = mine.filter((each, column) => named[column] >= 0 && isTelling(each)).length;
  if (num * 2 >= Math.min(mine.filter(isTelling).length, theirs.filter(isTelling).length))
    return { columns: named, byOrder: false, num: numOf(named) };
  /** @type {Map<string, number[]>} */
  const waiting = new Map();
  for (const column of inOrder(theirs)) {
    const role = roleOf(theirs[column]);
    waiting.set(role, [...(waiting.get(role) ?? []), column]);
  }
  const columns = mine.map(() => -1);
  for (const column of inOrder(mine))
    columns[column] = waiting.get(roleOf(mine[column]))?.shift() ?? -1;
  return { columns, byOrder: true, num: numOf(columns) };
}

/** @param {number[]} columns */
const numOf = (columns) => columns.filter((there) => there >= 0).length;

/** @param {Parameter[]} parameters */
function inOrder(parameters) {
  const far = 1e9;
  return parameters
    .map((_, column) => column)
    .sort(
      (one, other) =>
        (parameters[one].depth ?? far) - (parameters[other].depth ?? far) || one - other,
    );
}

/** @type {{ mine: Meta | null, theirs: Meta | null, pairs: Pairs }} */
const kept = { mine: null, theirs: null, pairs: { columns: [], byOrder: false, num: 0 } };

/** The pairs of the two runs that are shown. */
export function pairs() {
  const mine = currentMeta(),
    theirs = state.otherMeta;
  if (kept.mine !== mine || kept.theirs !== theirs)
    Object.assign(kept, {
      mine,
      theirs,
      pairs: pairUp(mine.parameters, theirs?.parameters ?? []),
    });
  return kept.pairs;
}
