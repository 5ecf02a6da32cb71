"""Describe a step with a gradient that is NaN or infinite: where that came from."""

from __future__ import annotations

import math

import numpy as np

from seismograd.analysis.birth_words import words
from seismograd.analysis.births import Births
from seismograd.analysis.block_rows import (
    flagged,
    iteration_at,
    names_at,
    numbers,
    site_of,
    statistic,
    weight_norms,
)
from seismograd.analysis.loss_origin import Values, origin_of, site_of_loss, what_made_it
from seismograd.diagnosis.rule import Explanation, Rule
from seismograd.i18n import say
from seismograd.schema import (
    EventKind,
    Evidence,
    Fact,
    Finding,
    IntArray,
    Origin,
    RowBatch,
    State,
    StepFlag,
)


def nonfinite_step_finding(rule: Rule, births: Births, block: RowBatch, row: int) -> Finding:
    """Return the finding about this row, with what is known of the births of its numbers."""
    step, columns = iteration_at(block, row), _in_backward_order(block, row)
    first, num = block.parameters[int(columns[0])], len(columns)
    count = int(statistic(block, "nonfinite")[row, columns[0]])
    is_unknown = flagged(block.steps, StepFlag.NO_LOSS)[row]
    loss = None if is_unknown else float(numbers(block.steps, "loss")[row])
    evidence = [
        Evidence("nonfinite", first.name, step, float(count), 0.0),
        Evidence("nonfinite_parameters", "", step, float(num), 0.0),
    ]
    if loss is not None and not math.isnan(loss):
        evidence.append(Evidence("loss", "", step, loss, math.inf))
    values: Values = {
        "step": step,
        "loss": "" if loss is None else f"{loss:.4g}",
        "parameter": first.name,
        "count": count,
        "numel": first.numel,
        "affected": num,
        "measured": int((block.state[row] >= State.ZERO).sum()),
    }
    birth = births.of_loss(step) or births.of_gradient(step)
    return rule.finding(
        *_cause(_weights_are_finite(block, row), loss, origin_of(block, row), values, birth),
        optimizer=int(block.steps["optimizer"][row]),
        first_step=step,
        parameters=names_at(block, columns),
        evidence=tuple(evidence),
        where=(birth.where if birth else "")
        or site_of_loss(block, row)
        or site_of(block, EventKind.BACKWARD, step),
        seen_only=not (birth and birth.where),
    )


def _in_backward_order(block: RowBatch, row: int) -> IntArray:
    """Return the non-finite columns of a row from the loss to the input; those whose depth is
    unknown come last, also backwards.
    """
    columns = np.flatnonzero(block.state[row] == State.NONFINITE)
    depths = [block.parameters[column].depth for column in columns.tolist()]
    depth = np.array([-1 if each is None else each for each in depths], np.int64)
    return columns[np.lexsort((-columns, -depth))]


def _weights_are_finite(block: RowBatch, row: int) -> bool:
    """Return false only where they were sampled in this row and are not."""
    sampled = weight_norms(block, row)
    return sampled is None or not bool(
        (~np.isfinite(sampled) & (block.state[row] >= State.ZERO)).any()
    )


def _cause(
    weights_are_finite: bool,
    loss: float | None,
    origin: Origin,
    values: Values,
    birth: Fact | None,
) -> Explanation:
    """Return why it is so; without a loss it could not be measured."""
    if birth is not None and birth.text("of") == "loss":
        return what_made_it(origin, values, birth)
    if birth is not None:
        what, advice, excerpt = words(birth)
        return (
            say(
                "step {step}: {what}; the loss is finite ({loss}), and {affected} of {measured} "
                "{measured:parameter|parameters} {affected:has|have} NaN or infinite gradients, "
                "{parameter} first",
                what=what,
                **values,
            ),
            advice,
            excerpt,
        )
    if not weights_are_finite:
        return (
            say(
                "at step {step} the weights themselves were already NaN or infinite, so every loss "
                "and gradient is, too; in the order of the backward pass, {parameter} is the first "
                "affected parameter (of {affected})",
                **values,
            ),
            say(
                "check what wrote the weights before this step: a checkpoint, an initialisation, "
                "or an update that was too large"
            ),
            "assert all(torch.isfinite(p).all() for p in model.parameters())",
        )
    if loss is not None and math.isfinite(loss):
        return (
            say(
                "the loss was still finite ({loss}) at step {step}, but its backward pass made "
                "{count} of the {numel} gradient scalars of {parameter} NaN or infinite and "
                "reached {affected} of {measured} {measured:parameter|parameters}: a derivative "
                "is undefined, such as that of a square root or a norm at 0, even in a branch that "
                "torch.where hides",
                **values,
            ),
            say(
                "find the operation with anomaly detection and keep its input away from that "
                "point: fix the input, for instance with torch.where or clamp, not the result"
            ),
            "torch.autograd.set_detect_anomaly(True)",
        )
    if loss is not None:
        return what_made_it(origin, values)
    return (
        say(
            "at step {step} {count} of the {numel} gradient scalars of {parameter} {count:is|are} "
            "NaN or infinite, and {affected} of {measured} {measured:parameter|parameters} "
            "{affected:has|have} such scalars; the loss could not be measured",
            **values,
        ),
        say(
            "check whether the loss is finite: if it is, anomaly detection finds the operation in "
            "the backward pass; if not, check the data and the forward pass"
        ),
        "assert torch.isfinite(loss), loss",
    )
