"""Compute the loss of a classifier that only guesses: the reference for the loss of the first
step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from seismograd.analysis.block_rows import as_list, integers, statistic, weight_norms
from seismograd.analysis.parameter_index import is_weight
from seismograd.schema import EventFlag, EventKind, Parameter, RowBatch, State, StepFlag

OUTPUTS = "log_softmax"  # the activation behind the last layer of a classifier
# a term beside the cross entropy has a scale of its own
RESHAPED = EventFlag.SUMMED | EventFlag.RESCALED | EventFlag.SEVERAL


def chance_loss(parameters: Sequence[Parameter]) -> float:
    """Return the cross entropy of a uniform guess; NaN when the graph does not show one
    classifier.
    """
    heads = [each for each in parameters if each.activation == OUTPUTS and is_weight(each)]
    return math.log(heads[0].shape[0]) if len(heads) == 1 and heads[0].shape[0] > 1 else math.nan


def plain_loss(block: RowBatch, row: int) -> float:
    """Return the loss of an iteration with one backward of a plain mean over samples; NaN
    otherwise.
    """
    step = block.steps[row]
    if int(step["num_backwards"]) != 1 or int(step["flags"]) & int(StepFlag.NO_LOSS):
        return math.nan
    mine = integers(block.events, "iteration") == int(step["iteration"])
    for at in as_list(
        np.flatnonzero(mine & (integers(block.events, "kind") == EventKind.BACKWARD))
    ):
        event = block.events[at]
        # false where one is NaN
        is_mean = abs(float(event["weight"]) * float(event["count"]) - 1) < 0.01
        return (
            float(step["loss"]) if is_mean and not int(event["flags"]) & int(RESHAPED) else math.nan
        )
    return math.nan


def leverage(block: RowBatch, row: int) -> float:
    """Return the share by which the loss would change if a weight changed by its own size along its
    gradient: the largest over the weights.

    About 0.1 to 10 in a network that is initialized for its activation, whatever the units of loss
    and weights. NaN when not sampled, or when a gradient is exactly zero.
    """
    sampled, loss = weight_norms(block, row), float(block.steps["loss"][row])
    columns = [
        column
        for column, each in enumerate(block.parameters)
        if is_weight(each) and "Embedding" not in each.module
    ]
    if sampled is None or not columns or not (math.isfinite(loss) and loss > 0):
        return math.nan
    known = (
        (block.state[row, columns] == State.FINITE)
        & np.isfinite(sampled[columns])
        & (sampled[columns] > 0)
    )
    if not known.all():
        return math.nan
    return float((statistic(block, "grad_norm")[row, columns] * sampled[columns]).max()) / loss
