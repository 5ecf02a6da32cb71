// What is known of the parameter under the cursor, at the step under it.

/** @import { Statistic } from "./answers.d.ts" */
/** @import { Fact } from "./types.d.ts" */

import { nearestText } from "./cursor.js";
import { count, fmt, share } from "./numbers.js";
import { currentMeta, state } from "./state.js";
import { sentences, T } from "./texts.js";

/** @returns {Fact[]} */
export function parameterFacts() {
  const each = currentMeta().parameters[state.column],
    { step } = state;
  const optimizer =
    each.optimizer === null
      ? T("no_optimizer")
      : sentences(
          currentMeta().optimizers[each.optimizer]?.kind ?? "?",
          T("group_number", { number: each.group ?? 0 }),
        );
  /** @type {Fact[]} */
  const found = [
    [
      T("fact_shape"),
      sentences(
        `[${each.shape.join(", ")}]`,
        each.dtype,
        each.compute_dtype && each.compute_dtype !== each.dtype
          ? T("computed_in", { dtype: each.compute_dtype })
          : "",
      ),
    ],
    [T("fact_module"), sentences(each.module, optimizer)],
  ];
  if (each.aliases.length) found.push([T("fact_aliases"), each.aliases.join(", ")]);
  if (!step?.states || step.row < 0) return found;
  /** @param {Statistic} name */
  const at = (name) => step[name]?.[state.column];
  const kind = step.states[state.column];
  found.push([T("column_step"), sentences(String(step.step), nearestText())]);
  found.push([T("column_state"), T(`state_${kind}`), kind === 4 ? "error" : ""]);
  if (kind > 1) {
    found.push([
      T("fact_norm"),
      sentences(fmt(at("grad_norm"), 6), `RMS ${fmt(at("grad_norm") / Math.sqrt(each.numel))}`),
    ]);
    found.push([T("fact_max"), fmt(at("grad_max"), 6)]);
    found.push([
      T("fact_zeros"),
      sentences(share(at("zeros"), each.numel), `NaN/Inf ${count(at("nonfinite"))}`),
    ]);
    if (
      !Number.isNaN(at("applied_norm")) &&
      Math.abs(at("applied_norm") - at("grad_norm")) > 1e-5 * at("grad_norm")
    )
      found.push([T("fact_applied"), fmt(at("applied_norm"), 6)]);
  }
  if (!Number.isNaN(at("update_ratio")))
    found.push([
      T("fact_update"),
      sentences(
        fmt(at("update_ratio")),
        Number.isNaN(at("unmoved")) ? "" : T("unmoved", { share: share(at("unmoved"), 1) }),
      ),
    ]);
  return found;
}
