// What the live region says of the step under the cursor, for those who hear the page.

/** @import { Step } from "./answers.d.ts" */

import { nearestText } from "./cursor.js";
import { fmt } from "./numbers.js";
import { tell } from "./panel.js";
import { chosenName, currentMeta, state } from "./state.js";
import { sentences, T } from "./texts.js";

/**
 * The norm of the parameter under the cursor, or why it has none.
 *
 * @param {Step} step
 */
function normText(step) {
  if (state.column < 0) return "";
  const kind = step.states[state.column];
  const isNumber = kind === 3 || kind === 2;
  return `${chosenName()}: ${isNumber ? fmt(step.grad_norm[state.column]) : T(`state_${kind}`)}`;
}

export function sayStep() {
  const { step } = state;
  if (!step || step.row < 0) return;
  const bits = currentMeta().step_flags;
  const isGuarded = step.flags & (bits.GUARDED ?? 0);
  const special = Object.entries(bits)
    .filter(([name, bit]) => step.flags & bit && name !== "NO_LOSS")
    .filter(([name]) => name !== "SKIPPED" || !isGuarded)
    .map(([name]) => T(`flag_${name}`));
  tell(
    sentences(
      T("step", { step: step.step }),
      step.row === state.row ? "" : nearestText(),
      step.epoch >= 0 ? T("epoch", { epoch: step.epoch }) : "",
      step.loss_measured ? `${T("scalar_loss")} ${fmt(step.loss)}` : "",
      `${T("fact_norm")} ${fmt(step.total_norm)}`,
      `${T("scalar_lr")} ${fmt(step.lr)}`,
      normText(step),
      ...special,
    ),
  );
}
