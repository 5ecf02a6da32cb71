"""Compare weight decay with what the gradient does to a weight."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from seismograd.analysis.block_rows import (
    as_list,
    iteration_at,
    names_at,
    statistic,
    weight_norms,
)
from seismograd.analysis.known_settings import KnownSettings
from seismograd.analysis.medians import median
from seismograd.schema import FloatArray, IntArray, RowBatch, State


@dataclass(frozen=True, slots=True)
class SampledDecay:
    """The weights of an optimizer at a sampled step, and their decay over their gradients."""

    step: int
    names: tuple[str, ...]
    norm: float  # of all weights
    is_mostly_without_gradient: bool  # by their squared norm
    ratio: float  # median of the weights'
    worst: str  # of the largest ratio
    decay: float  # the largest


def sampled_decay(
    block: RowBatch, row: int, columns: IntArray, settings: KnownSettings
) -> SampledDecay | None:
    """Return what is known of the weights in these columns; `None` where they were not sampled."""
    sampled = weight_norms(block, row)
    if sampled is None or not len(columns):
        return None
    norms, names = sampled[columns], names_at(block, columns)
    # A decay over nothing would be beyond any bound.
    without = norms[block.state[row, columns] == State.ZERO]
    ratios, decay = decay_ratios(block, row, columns, norms, settings)
    square = _sum_of_squares(norms)
    return SampledDecay(
        iteration_at(block, row),
        names,
        math.sqrt(square),
        2 * _sum_of_squares(without) > square,
        median(ratios),
        names[int(np.argmax(np.where(np.isfinite(ratios), ratios, -1)))],
        decay,
    )


def _sum_of_squares(norms: FloatArray) -> float:
    """Return what `np.nansum` of the squares is, in a third of the time."""
    squares = norms**2
    squares[np.isnan(squares)] = 0
    return float(np.add.reduce(squares))


def decay_ratios(
    block: RowBatch, row: int, columns: IntArray, norms: FloatArray, settings: KnownSettings
) -> tuple[FloatArray, float]:
    """Return the decay of each weight in these columns over what its gradient does, NaN where it is
    not known or not finite, and the largest decay. `norms` are those of the weights.

    Decoupled decay acts beside the gradient, so it is compared with the whole update.
    """
    ratios, largest = np.full(len(columns), np.nan), 0.0
    gradients, lr = statistic(block, "grad_norm")[row], float(block.steps["lr"][row])
    updates = np.full(len(block.parameters), np.nan)
    if "update_ratio" in block.values:
        updates = statistic(block, "update_ratio")[row]
    for position, column in enumerate(as_list(columns)):
        fact = settings.at(iteration_at(block, row), block.parameters[column])
        decay = math.nan if fact is None else fact.number("weight_decay")
        is_finite = block.state[row, column] == State.FINITE and norms[position] > 0
        if fact is None or math.isnan(decay) or not is_finite:
            continue
        largest = max(largest, decay)
        pull, other = decay * norms[position], gradients[column]
        if fact.number("decoupled"):
            pull, other = lr * decay, updates[column]
        if not math.isnan(other):
            ratios[position] = pull / max(other, 1e-30) if pull else 0.0
    return ratios, largest
