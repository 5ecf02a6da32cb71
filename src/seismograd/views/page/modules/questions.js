// Asking for what is shown: at most one question of each kind under way; an answer to an old
// question is dropped.

/** @import { Answers } from "./types.d.ts" */

import { connected } from "./connection.js";
import { rowAt, stepOf } from "./cursor.js";
import { emit, on } from "./events.js";
import { pairs } from "./pairs.js";
import { currentMeta, currentSource, picturedColumn, state } from "./state.js";
import { afterFrame, later } from "./timing.js";

/** @type {Partial<Record<keyof Answers, number>>} */
const asked = {};

/**
 * @template {keyof Answers} K
 * @param {K} what
 * @param {() => Promise<Answers[K]>} question
 */
export async function ask(what, question) {
  const turn = (asked[what] ?? 0) + 1;
  asked[what] = turn;
  let answer = null;
  try {
    answer = await question();
    if (turn === asked[what]) connected(true);
  } catch (error) {
    if (turn === asked[what]) connected(false, error);
    return;
  }
  if (turn !== asked[what]) return;
  /** @type {Answers} */ (state)[what] = answer;
  emit(what);
}

/** How many columns of an answer the page has room for. */
export const widthOf = () => Math.max(200, Math.min(2000, Math.round(window.innerWidth * 0.75)));

/** The heat map first: while it is not there, nothing else takes the server's time. */
export function askWindow() {
  if (!currentMeta().rows) return;
  const { other, start, stop } = state;
  const source = currentSource();
  const first = ask("heat", async () => {
    const heat = await source.heat(start, stop, widthOf(), state.statistic, state.which);
    return heat && { ...heat, window: `${start}-${stop}` };
  });
  const rest = () => {
    ask("seismogram", () => source.seismogram());
    ask("scalars", () => source.scalars(start, stop, widthOf()));
    if (other) {
      ask("otherHeat", () => other.heat(start, stop, widthOf(), state.statistic, state.which));
      ask("otherScalars", () => other.scalars(start, stop, widthOf()));
    }
    askParameter();
  };
  if (state.heat) rest();
  else
    first.then(afterFrame).then(() => {
      askStep();
      rest();
    });
}

function askParameter() {
  const { other, column, start, stop } = state;
  const source = currentSource();
  if (column < 0 || !currentMeta().rows) return;
  ask("line", () => source.line(column, start, stop, widthOf()));
  ask("histogram", () => source.histogram(column, start, stop, 300));
  const there = other ? pairs().columns[column] : -1;
  if (other && there >= 0) ask("otherLine", () => other.line(there, start, stop, widthOf()));
}

export function askStep() {
  if (!currentMeta().rows) return;
  ask("step", () => currentSource().step(state.row));
  const { other, otherMeta } = state;
  if (other && otherMeta?.rows) {
    const row = rowAt(otherMeta, stepOf(state.row));
    ask("otherStep", () => other.step(row));
  }
  ask("lanes", () => currentSource().lanes(state.row));
  if (currentMeta().signals) ask("signals", () => currentSource().signals(state.row));
  askPicture();
}

function askPicture() {
  const column = picturedColumn();
  if (column >= 0) ask("picture", () => currentSource().picture(column, state.row));
}

const askWindowSoon = later(askWindow, 60);
const askStepSoon = later(askStep, 40);
let askedColumn = -1;

on("window", () => askWindowSoon());
on("cursor", () => {
  askStepSoon();
  if (state.column !== askedColumn) {
    askedColumn = state.column;
    askParameter();
    askPicture();
  }
});
