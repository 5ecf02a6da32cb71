"""Compute the loss of a classifier that only guesses: the reference for the loss of the first
step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from seismograd.analysis.block_rows import integers, statistic, weight_norms
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
    used = _used_backward(block, int(step["iteration"]), int(step["optimizer"]))
    if used is None:
        return math.nan
    event = block.events[used]
    # false where one is NaN
    is_mean = abs(float(event["weight"]) * float(event["count"]) - 1) < 0.01
    return float(step["loss"]) if is_mean and not int(event["flags"]) & int(RESHAPED) else math.nan


def _used_backward(block: RowBatch, iteration: int, optimizer: int) -> int | None:
    """Return which event is the backward that a step of an optimizer has used, where it has used
    one: the gradients of those before it were cleared. What a step evaluates again does not count.
    """
    events = block.events
    mine = (integers(events, "iteration") == iteration) & (
        integers(events, "kind") == EventKind.BACKWARD
    )
    mine &= (integers(events, "flags") & int(EventFlag.AGAIN)) == 0
    if 0 <= optimizer < 64:
        own = mine & ((events["touched"] >> np.uint64(optimizer)) & np.uint64(1) != 0)
        mine = own if own.any() else mine
    at = np.flatnonzero(mine)
    return int(at[-1]) if len(at) else None


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
