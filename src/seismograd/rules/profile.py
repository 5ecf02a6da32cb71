"""The profile over depth: the norm of each layer's gradient in the order of execution, and the line through its logarithms.

Shapes: B iterations, P parameters, L layers, R rows of one kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from seismograd.rules.rows import BoolArray, statistic
from seismograd.schema import Block, FloatArray, IntArray, Parameter, State

MAX_FITTED = 64  # layers that a line is fitted through; of more, so many at equal distances
_SMALLEST = float(np.finfo(np.float64).smallest_subnormal)
_MEANING = np.array([np.nan, np.nan, 0.0, np.nan, np.inf])  # of a State
_MOST_DECADES = 300.0


@dataclass(frozen=True, slots=True)
class Layers:
    """The weights of at least two dimensions that pass a signal on, nearest the input first.

    Embeddings are left out (a batch touches few of their rows), and so is what has a single row, such as a class token.
    """

    names: tuple[str, ...]  # of the weights
    bias_names: tuple[str, ...]  # empty where there is none
    weights: IntArray  # (L,) columns
    biases: IntArray  # (L,) columns, -1 where there is none

    def __len__(self) -> int:
        return len(self.names)


def layers_of(parameters: Sequence[Parameter]) -> Layers:
    """The layers among these parameters: by `depth`, or as they are listed when no depth is known."""
    column_of = {parameter.name: column for column, parameter in enumerate(parameters)}
    found = [column for column, parameter in enumerate(parameters) if _passes_a_signal_on(parameter)]
    placed = [column for column in found if parameters[column].depth is not None]
    order = sorted(placed, key=lambda column: parameters[column].depth or 0) if placed else found
    names = tuple(parameters[column].name for column in order)
    bias_names = tuple(name if (name := _bias_name(weight)) in column_of else "" for weight in names)
    biases = [column_of.get(name, -1) for name in bias_names]
    return Layers(names, bias_names, np.array(order, np.int64), np.array(biases, np.int64))


def _passes_a_signal_on(parameter: Parameter) -> bool:
    return parameter.trainable and sum(size > 1 for size in parameter.shape) >= 2 and "Embedding" not in parameter.module


def _bias_name(weight: str) -> str:
    """`net.0.weight` -> `net.0.bias`, `rnn.weight_hh_l0` -> `rnn.bias_hh_l0`; empty where the name does not tell."""
    owner, dot, name = weight.rpartition(".")
    return f"{owner}{dot}{name.replace('weight', 'bias')}" if "weight" in name else ""


@dataclass(frozen=True, slots=True)
class LayerNorms:
    """Norms of the gradients of each layer; 0: exactly zero, inf: non-finite, NaN: none  # each (B, L)."""

    weight: FloatArray
    bias: FloatArray

    @property
    def together(self) -> FloatArray:
        """Norm of weights and biases together."""
        return np.where(np.isnan(self.bias), self.weight, np.hypot(self.weight, self.bias))

    def larger(self, layers: Layers, row: int, layer: int) -> tuple[str, float]:
        """The tensor that holds most of a layer's gradient, and its norm."""
        weight, bias = float(self.weight[row, layer]), float(self.bias[row, layer])
        return (layers.bias_names[layer], bias) if bias > weight else (layers.names[layer], weight)


def layer_norms(block: Block, layers: Layers) -> LayerNorms:
    """The norms of the layers' gradients, read from the columns of a block."""
    columns = np.concatenate([layers.weights, layers.biases])
    state = block.state[:, columns]
    value = np.maximum(statistic(block, "grad_norm")[:, columns], _SMALLEST)  # a finite gradient whose norm underflows is not zero
    norm = np.where(state == State.FINITE, value, _MEANING[state])
    norm[:, columns < 0] = np.nan
    return LayerNorms(norm[:, : len(layers)], norm[:, len(layers) :])


@dataclass(frozen=True, slots=True)
class Profiles:
    """Lines log10(norm) = c + slope * layer  # each (B,). Where `evaluated` is false nothing can be said of a row.

    Rows whose layers are all within the range that was asked for are not fitted: their `slope` and `goodness` are 0.
    """

    evaluated: BoolArray
    slope: FloatArray  # decades per layer, away from the input; the signal loses them on its way back
    goodness: FloatArray  # R² of the line
    num_layers: IntArray  # that the line goes through
    leading_zeros: IntArray  # layers before those, whose gradient is exactly zero

    @property
    def gain(self) -> FloatArray:
        """What a layer passes on of the gradient it gets."""
        return _power(-self.slope)

    @property
    def total_gain(self) -> FloatArray:
        """What is left of it at the first of the layers that the line goes through."""
        return _power(-self.slope * (self.num_layers - 1))


def profiles(norm: FloatArray, min_range: float, min_layers: int) -> Profiles:
    """Fit each row of norms (B, L) that spans at least `min_range` decades or begins with zeros.

    The slope is the median of the slopes between all pairs of layers (Theil 1950, Sen 1968), so that a third of the layers may lie
    anywhere. A row with a non-finite layer, or with fewer than `min_layers` finite ones, is not evaluated.
    """
    usable = (norm > 0) & (norm < np.inf)
    num_layers = usable.sum(axis=1)
    evaluated = (num_layers >= min_layers) & ~(norm == np.inf).any(axis=1)
    slope, goodness = np.zeros(len(norm)), np.zeros(len(norm))
    leading_zeros = np.zeros(len(norm), np.int64)
    if not evaluated.any():
        return Profiles(evaluated, slope, goodness, num_layers, leading_zeros)
    if not usable.all():
        leading = np.cumsum(usable, axis=1) == 0
        leading_zeros = ((norm == 0) & leading).sum(axis=1)
    largest = np.max(norm, axis=1, where=usable, initial=0)
    smallest = np.min(norm, axis=1, where=usable, initial=np.inf)
    candidates = np.flatnonzero(evaluated & ((smallest <= largest * 10.0**-min_range) | (leading_zeros > 0)))
    if len(candidates):
        kinds, kind_of = np.unique(usable[candidates], axis=0, return_inverse=True)
        for number, kind in enumerate(kinds):
            rows = candidates[kind_of.reshape(-1) == number]
            slope[rows], goodness[rows] = _fit(np.log10(norm[rows][:, kind]))
    return Profiles(evaluated, slope, goodness, num_layers, leading_zeros)


def _power(decades: FloatArray) -> FloatArray:
    return 10.0 ** np.clip(decades, -_MOST_DECADES, _MOST_DECADES)


def _fit(height: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Slope and R² of a robust line through each row  # (R, L) -> (R,), (R,)."""
    num_layers = height.shape[1]
    fitted = min(num_layers, MAX_FITTED)
    place = np.array([layer * (num_layers - 1) // (fitted - 1) for layer in range(fitted)], np.int64)
    height = height[:, place]
    first, second = _pairs(len(place))
    slope: FloatArray = np.median((height[:, second] - height[:, first]) / (place[second] - place[first]), axis=1)
    rest: FloatArray = height - slope[:, None] * place
    rest = rest - np.median(rest, axis=1)[:, None]
    spread: FloatArray = ((height - height.mean(axis=1)[:, None]) ** 2).sum(axis=1)
    goodness: FloatArray = 1 - (rest**2).sum(axis=1) / np.maximum(spread, np.finfo(np.float64).tiny)
    return slope, np.clip(goodness, 0, 1)


@lru_cache(maxsize=MAX_FITTED)
def _pairs(num: int) -> tuple[IntArray, IntArray]:
    first, second = np.triu_indices(num, 1)
    return first.astype(np.int64), second.astype(np.int64)
