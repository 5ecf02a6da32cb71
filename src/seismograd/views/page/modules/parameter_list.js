// Which parameters are listed: filtered, sorted, grouped.

/** @import { Parameter } from "./answers.d.ts" */
/** @import { Candidate, State } from "./types.d.ts" */

import { currentMeta, state } from "./state.js";

/**
 * @param {string} given
 * @returns {(name: string) => boolean}
 */
function matcher(given) {
  const text = given.trim();
  if (!text) return () => true;
  if (text.startsWith("/")) {
    try {
      const found = new RegExp(text.slice(1).replace(/\/$/, ""), "i");
      return (name) => found.test(name);
    } catch {
      return () => false;
    }
  }
  const words = text.split(/\s+/).map(glob);
  return (name) => words.some((word) => word.test(name));
}

/**
 * A word of a filter: a glob where it has `*`, `?` or `[…]`, else a part of the name.
 *
 * @param {string} word
 */
function glob(word) {
  const isGlob = /[*?]|\[[^\]]+\]/.test(word);
  const parts = word.replace(/\[!?[^\]]+\]|./gs, (part) => {
    if (isGlob && part.length > 1) return part.replace("[!", "[^").replace(/\\/g, "\\\\");
    if (isGlob && part === "*") return ".*";
    if (isGlob && part === "?") return ".";
    return part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  });
  try {
    return new RegExp(isGlob ? `^${parts}$` : parts, "i");
  } catch {
    return /^\b$/;
  }
}

/** @param {Parameter} parameter */
export const isMatrix = (parameter) => parameter.shape.filter((size) => size > 1).length >= 2;

export function listRows() {
  const meta = currentMeta();
  const matches = matcher(state.filter);
  const matrices = meta.parameters.some(isMatrix);
  /** @type {Record<State["kind"], (each: Parameter) => boolean>} */
  const kinds = {
    auto: (each) => !matrices || meta.parameters.length <= 24 || isMatrix(each),
    matrix: isMatrix,
    vector: (each) => !isMatrix(each),
    all: () => true,
  };
  const kind = state.filter.trim() && state.kind === "auto" ? kinds.all : kinds[state.kind];
  const chosen = meta.parameters
    .map((each, column) => ({ each, column }))
    .filter(({ each }) => kind(each) && [each.name, ...each.aliases].some(matches));
  chosen.sort((one, two) => order(one, two));
  if (state.group) {
    /** @type {Map<string, number[]>} */
    const groups = new Map();
    for (const { each, column } of chosen) {
      const parts = each.name.split(".").slice(0, -1);
      const label = parts.slice(0, state.group).join(".") || each.name;
      groups.set(label, [...(groups.get(label) ?? []), column]);
    }
    state.rows = [...groups].map(([label, columns]) => ({ label, columns, group: true }));
  } else {
    state.rows = chosen.map(({ each, column }) => ({
      label: each.name,
      columns: [column],
      group: false,
    }));
  }
  if (state.column < 0 || !state.rows.some((row) => row.columns.includes(state.column))) {
    state.column = state.rows.length ? state.rows[0].columns[0] : state.column;
  }
}

/**
 * @param {Candidate} one
 * @param {Candidate} two
 */
function order(one, two) {
  if (state.sort === "name")
    return one.each.name.localeCompare(two.each.name, "en", { numeric: true });
  if (state.sort === "norm")
    return normAtCursor(two.column) - normAtCursor(one.column) || one.column - two.column;
  if (state.sort === "trouble")
    return trouble(two.column) - trouble(one.column) || one.column - two.column;
  const far = 1e9; // the output is on top, as in the picture of a network that one reads upwards
  return (two.each.depth ?? -far) - (one.each.depth ?? -far) || one.column - two.column;
}

/** @param {number} column */
function normAtCursor(column) {
  const value = state.step?.grad_norm?.[column];
  return Number.isNaN(value) || value === undefined ? -1 : value;
}

/** @param {number} column */
function trouble(column) {
  const { nonfinite, zero, absent } = currentMeta().codes;
  let points = currentMeta().findings.some((finding) => finding.columns.includes(column)) ? 1e6 : 0;
  if (!state.heat) return points;
  const width = state.heat.codes.shape[1];
  for (const code of state.heat.codes.subarray(column * width, (column + 1) * width)) {
    points += code === nonfinite ? 1e3 : code === zero ? 10 : code === absent ? 1 : 0;
  }
  return points;
}
