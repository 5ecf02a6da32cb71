"""Tell which parameters are the layers of a network, in the order of execution.

Shapes: L layers.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from seismograd.analysis.added_factors import added_factors
from seismograd.schema import IntArray, Parameter


@dataclass(frozen=True, slots=True)
class ProfileLayers:
    """The weights of at least two dimensions that pass a signal on, nearest the input first.

    Embeddings are excluded (a batch touches few of their rows), and so is anything with a single
    row, such as a class token.
    """

    names: tuple[str, ...]  # of the weights
    bias_names: tuple[str, ...]  # empty where there is none
    columns: IntArray  # (2 L,) of the weights, then of the biases, -1 where there is none
    without: IntArray  # position of that in `columns`

    def __len__(self) -> int:
        return len(self.names)


def chains_of(parameters: Sequence[Parameter]) -> tuple[ProfileLayers, ...]:
    """Return the layers of each branch, longest first: those of an actor and of a critic beside it
    are two chains. What only adds to frozen weights, as LoRA's factors, is in none of them. There
    is always one.
    """
    added = added_factors(parameters)
    passing = [p for p in parameters if _passes_a_signal_on(p) and p.name not in added]
    branches = sorted({each.branch for each in passing}) or [0]
    chains = [layers_of(parameters, branch, added) for branch in branches]
    return tuple(sorted(chains, key=len, reverse=True))


def layers_of(
    parameters: Sequence[Parameter], branch: int | None = None, without: Collection[str] = ()
) -> ProfileLayers:
    """Return the layers among these parameters, or of one branch of them, `without` some: by
    `depth`, or as they are listed when no depth is known.
    """
    column_of = {parameter.name: column for column, parameter in enumerate(parameters)}
    found = [
        column
        for column, parameter in enumerate(parameters)
        if _passes_a_signal_on(parameter)
        and branch in (None, parameter.branch)
        and parameter.name not in without
    ]
    placed = [column for column in found if parameters[column].depth is not None]
    order = sorted(placed, key=lambda column: parameters[column].depth or 0) if placed else found
    names = tuple(parameters[column].name for column in order)
    bias_names = tuple(name if (name := bias_name(weight)) in column_of else "" for weight in names)
    biases = [column_of.get(name, -1) for name in bias_names]
    columns = np.array([*order, *biases], np.int64)
    return ProfileLayers(names, bias_names, columns, np.flatnonzero(columns < 0))


def _passes_a_signal_on(parameter: Parameter) -> bool:
    return (
        parameter.trainable
        and sum(size > 1 for size in parameter.shape) >= 2
        and "Embedding" not in parameter.module
    )


def bias_name(weight: str) -> str:
    """Return the name of the bias beside a weight: `net.0.weight` -> `net.0.bias`,
    `rnn.weight_hh_l0` -> `rnn.bias_hh_l0`; empty for other names.
    """
    owner, dot, name = weight.rpartition(".")
    return f"{owner}{dot}{name.replace('weight', 'bias')}" if "weight" in name else ""
