"""Compare weight decay with what the gradient does to a weight.

Shapes: S sampled steps, W weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seismograd.analysis.block_rows import (
    BoolArray,
    as_list,
    integers,
    names_at,
    numbers,
    statistic,
)
from seismograd.analysis.known_settings import KnownSettings
from seismograd.analysis.medians import medians
from seismograd.schema import FloatArray, IntArray, RowBatch, State


@dataclass(frozen=True, slots=True)
class SampledDecays:
    """The weights of an optimizer at the sampled steps of a block, and their decay over their
    gradients.
    """

    block: RowBatch
    columns: IntArray  # (W,)
    positions: list[int]  # of these steps among the rows that were asked for
    steps: list[int]  # iterations
    norms: list[float]  # of all weights
    are_mostly_without_gradient: list[bool]  # by their squared norm
    ratios: FloatArray  # NaN: not known, or not finite  # (S, W)
    middle: list[float]  # median of the weights' ratios
    decays: list[float]  # the largest

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the weights."""
        return names_at(self.block, self.columns)

    def worst(self, index: int) -> str:
        """Return the weight with the largest ratio at a step."""
        ratios = self.ratios[index]
        return self.names[int(np.argmax(np.where(np.isfinite(ratios), ratios, -1)))]


def sampled_decays(
    block: RowBatch, rows: IntArray, columns: IntArray, settings: KnownSettings
) -> SampledDecays:
    """Return what is known of the weights in these columns, in those of these rows in which they
    were sampled.
    """
    sampled = np.flatnonzero(np.isin(block.sample_rows, rows))
    if not len(sampled) or not len(columns) or "weight_norm" not in block.samples:
        return SampledDecays(block, columns, [], [], [], [], np.zeros((0, len(columns))), [], [])
    looked = block.sample_rows[sampled]
    norms = np.asarray(block.samples["weight_norm"], np.float64)[np.ix_(sampled, columns)]
    ratios, decays = decay_ratios(block, looked, columns, norms, settings)
    squares = norms**2
    squares[np.isnan(squares)] = 0
    whole = _row_sums(squares)
    # A decay over nothing would be beyond any bound.
    without = _row_sums(squares, block.state[np.ix_(looked, columns)] == State.ZERO)
    return SampledDecays(
        block,
        columns,
        np.searchsorted(rows, looked).tolist(),
        integers(block.steps, "iteration")[looked].tolist(),
        np.sqrt(whole).tolist(),
        (2 * without > whole).tolist(),
        ratios,
        medians(ratios, np.isfinite(ratios), axis=1).tolist(),
        decays.tolist(),
    )


def _row_sums(squares: FloatArray, wanted: BoolArray | None = None) -> FloatArray:
    """Return the sum of those that are wanted of each row  # (S, W) -> (S,); one by one, since the
    order in which `np.sum` adds depends on how many rows there are.
    """
    if wanted is None:
        return np.array([np.add.reduce(each) for each in squares])
    sums = np.zeros(len(squares))
    for row in as_list(np.flatnonzero(wanted.any(axis=1))):
        sums[row] = np.add.reduce(squares[row, wanted[row]])
    return sums


def decay_ratios(
    block: RowBatch, rows: IntArray, columns: IntArray, norms: FloatArray, settings: KnownSettings
) -> tuple[FloatArray, FloatArray]:
    """Return the decay of each weight in these columns over what its gradient does, NaN where it is
    not known or not finite  # (S, W), and the largest decay  # (S,). `norms` are those of the
    weights.

    Decoupled decay acts beside the gradient, so it is compared with the whole update.
    """
    at, steps = np.ix_(rows, columns), integers(block.steps, "iteration")[rows]
    decay = settings.numbers("weight_decay", steps, block.parameters, columns)
    is_decoupled = settings.numbers("decoupled", steps, block.parameters, columns) != 0
    is_known = ~np.isnan(decay) & (block.state[at] == State.FINITE) & (norms > 0)
    other = np.full(norms.shape, np.nan)
    if "update_ratio" in block.values:
        other = statistic(block, "update_ratio")[at]
    other = np.where(is_decoupled, other, statistic(block, "grad_norm")[at])
    pull = decay * np.where(is_decoupled, numbers(block.steps, "lr")[rows, None], norms)
    ratios = np.full(norms.shape, np.nan)
    with np.errstate(over="ignore", invalid="ignore"):
        np.divide(pull, np.maximum(other, 1e-30), out=ratios, where=is_known & ~np.isnan(other))
    return ratios, np.maximum.reduce(decay, axis=1, where=is_known, initial=0.0)
