"""Profile gradients over depth: the norm of each layer's gradient in the order of execution, and a
line fitted to its logarithms.

Shapes: B iterations, P parameters, L layers, R rows of one kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from seismograd.analysis.block_rows import BoolArray, distinct, statistic
from seismograd.analysis.profile_layers import ProfileLayers, chains_of
from seismograd.analysis.robust_line import fit_line, row_sums
from seismograd.schema import FloatArray, IntArray, Parameter, RowBatch, State

_SMALLEST = float(np.finfo(np.float64).smallest_subnormal)
_MEANING = np.array([np.nan, np.nan, 0.0, np.nan, np.inf])  # of a State
_MOST_DECADES = 300.0


@dataclass(frozen=True, eq=False)
class LayerNorms:
    """Norms of the gradients of each layer; 0: exactly zero, inf: non-finite, NaN: none  # each
    (B, L).
    """

    weight: FloatArray
    bias: FloatArray

    @cached_property
    def combined(self) -> FloatArray:
        """Return the norm of weights and biases together."""
        together = np.hypot(self.weight, self.bias)
        alone = np.isnan(self.bias)
        if alone.any():
            together[alone] = self.weight[alone]
        return together

    def larger(self, layers: ProfileLayers, row: int, layer: int) -> tuple[str, float]:
        """Return the tensor that holds most of a layer's gradient, and its norm."""
        weight, bias = float(self.weight[row, layer]), float(self.bias[row, layer])
        return (layers.bias_names[layer], bias) if bias > weight else (layers.names[layer], weight)


def layer_norms(block: RowBatch, layers: ProfileLayers) -> LayerNorms:
    """Return the norms of the layers' gradients, read from the columns of a block."""
    state = block.state[:, layers.columns]
    # a finite gradient whose norm underflows is not zero
    norm = np.maximum(statistic(block, "grad_norm")[:, layers.columns], _SMALLEST)
    special = state != State.FINITE
    if special.any():
        norm[special] = _MEANING[state[special]]
    if len(layers.without):
        norm[:, layers.without] = np.nan
    return LayerNorms(norm[:, : len(layers)], norm[:, len(layers) :])


@dataclass(frozen=True, slots=True)
class EndNorms:
    """The norms at both ends of a chain, as a table of the step has them: of the first layer with a
    gradient and of the last, each by the tensor that holds most of it. NaN where there is none.
    """

    first: str
    last: str
    first_norm: float
    last_norm: float
    num_passed: int  # layers between the two, the first included

    @property
    def gain(self) -> float:
        """Return the factor by which each layer multiplies the gradient, on (geometric) average."""
        if not self.num_passed:
            return float("nan")
        decades = np.log10(self.first_norm) - np.log10(self.last_norm)
        return float(10.0 ** (decades / self.num_passed))


def end_norms(norms: LayerNorms, layers: ProfileLayers, row: int) -> EndNorms:
    """Return the norms at both ends of a row, without layers whose gradient is zero or absent."""
    there = np.flatnonzero((norms.combined[row] > 0) & (norms.combined[row] < np.inf))
    if not len(there):
        return EndNorms("", "", float("nan"), float("nan"), 0)
    first = norms.larger(layers, row, int(there[0]))
    last = norms.larger(layers, row, int(there[-1]))
    return EndNorms(first[0], last[0], first[1], last[1], len(there) - 1)


@dataclass(frozen=True, eq=False)
class LayeredBlock:
    """A block as the layers of one chain."""

    block: RowBatch
    layers: ProfileLayers

    @cached_property
    def norms(self) -> LayerNorms:
        """Return the norms of their gradients."""
        return layer_norms(self.block, self.layers)


@dataclass(slots=True)
class LayerReader:
    """Reads blocks by their layers, which are determined anew when the parameters change."""

    _parameters: tuple[Parameter, ...] | None = None
    _chains: tuple[ProfileLayers, ...] = ()

    def read(self, block: RowBatch) -> tuple[LayeredBlock, ...]:
        """Return the chains of layers of this block, longest first."""
        if block.parameters is not self._parameters:
            self._parameters, self._chains = block.parameters, chains_of(block.parameters)
        return tuple(LayeredBlock(block, layers) for layers in self._chains)


@dataclass(frozen=True, slots=True)
class DepthProfiles:
    """Lines through the logarithms of the norms, over depth  # each (B,). Rows where `evaluated` is
    false could not be judged.

    Rows that did not need a line have gains of 1 and a `goodness` of 0.
    """

    evaluated: BoolArray
    gain: FloatArray  # factor by which each layer multiplies the gradient it receives
    # share that is left at the first of the layers that the line goes through
    total_gain: FloatArray
    goodness: FloatArray  # R² of the line
    num_layers: IntArray  # that the line goes through
    leading_zeros: IntArray  # layers before those, whose gradient is exactly zero

    def exceeds(self, goodness: float, gain: float, total_gain: float) -> BoolArray:
        """Return where all three are at least this  # (B,)."""
        fits = self.goodness >= goodness
        return fits & (self.gain >= gain) & (self.total_gain >= total_gain) if fits.any() else fits


def profiles(norm: FloatArray, min_layers: int, decays: bool, min_range: float) -> DepthProfiles:
    """Fit each row of norms (B, L) that spans at least `min_range` decades, or begins with zeros,
    and decays towards the input (or grows).

    A row with a non-finite layer, or with fewer than `min_layers` finite ones, is not evaluated.
    """
    num_rows, most = norm.shape
    slope, goodness, leading_zeros = (
        np.zeros(num_rows),
        np.zeros(num_rows),
        np.zeros(num_rows, np.int64),
    )
    if most < min_layers:
        return DepthProfiles(
            slope > 0, slope + 1, slope + 1, goodness, leading_zeros, leading_zeros
        )
    smallest, largest = np.minimum.reduce(norm, axis=1), np.maximum.reduce(norm, axis=1)
    usable = None
    # also where one is NaN
    if not (smallest.min(initial=1) > 0 and largest.max(initial=1) < np.inf):
        usable = (norm > 0) & (norm < np.inf)
        leading_zeros = ((norm == 0) & ~np.logical_or.accumulate(usable, axis=1)).sum(axis=1)
        smallest = np.minimum.reduce(norm, axis=1, where=usable, initial=np.inf)
        largest = np.maximum.reduce(norm, axis=1, where=usable, initial=0)
    num_layers = np.full(num_rows, most) if usable is None else usable.sum(axis=1)
    evaluated = num_layers >= min_layers
    if usable is not None:
        evaluated &= ~(norm == np.inf).any(axis=1)
    candidates = np.flatnonzero(
        evaluated & ((smallest <= largest * 10.0**-min_range) | (leading_zeros > 0))
    )
    if not len(candidates):
        return DepthProfiles(evaluated, slope + 1, slope + 1, goodness, num_layers, leading_zeros)
    for rows, usable_norm in _by_length(norm, usable, num_layers, candidates):
        height = np.log10(usable_norm)
        half = height.shape[1] // 2
        rises = row_sums(height[:, -half:]) > row_sums(height[:, :half])
        wanted = rises == decays
        if wanted.any():
            slope[rows[wanted]], goodness[rows[wanted]] = fit_line(height[wanted])
    return DepthProfiles(
        evaluated,
        _power(-slope),
        _power(-slope * (num_layers - 1)),
        goodness,
        num_layers,
        leading_zeros,
    )


def _by_length(
    norm: FloatArray, usable: BoolArray | None, num_usable: IntArray, rows: IntArray
) -> list[tuple[IntArray, FloatArray]]:
    """Yield the rows by how many of their norms are usable (`None`: all are), and these without the
    others.
    """
    if usable is None:
        return [(rows, norm[rows])]
    alike = [(num, rows[num_usable[rows] == num]) for num in distinct(num_usable[rows])]
    return [(mine, norm[mine][usable[mine]].reshape(len(mine), num)) for num, mine in alike]


def _power(decades: FloatArray) -> FloatArray:
    return np.power(10.0, np.minimum(np.maximum(decades, -_MOST_DECADES), _MOST_DECADES))
