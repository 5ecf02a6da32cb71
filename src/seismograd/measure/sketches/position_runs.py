"""Where the numbers that a process holds stand in the whole tensor: runs of consecutive positions.

Shapes: k runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seismograd.schema import IntArray


@dataclass(frozen=True, slots=True, eq=False)
class PositionRuns:
    """Runs of `length` numbers, one after the other as they lie in the part; run i begins at
    position `starts[i]` of the whole tensor, flattened row by row  # (k,).
    """

    starts: IntArray
    length: int

    @property
    def numel(self) -> int:
        """Return how many numbers there are."""
        return len(self.starts) * self.length


def whole(numel: int) -> PositionRuns:
    """Return the positions of a tensor that is held whole."""
    return PositionRuns(np.zeros(min(1, numel), np.int64), numel)


def runs_of(
    shape: Sequence[int], offset: Sequence[int], held: Sequence[int], width: int = 1
) -> PositionRuns:
    """Return the positions of a block of shape `held` that begins at `offset` of a tensor of this
    `shape`. `width`: each scalar is so many numbers, two where it is complex.
    """
    if 0 in held:
        return whole(0)
    strides = np.cumprod([width, *reversed(shape)])[::-1][1:]  # (dims,)
    # Dimensions that are held whole, from the last on, belong to one run with the one before them.
    last = len(shape) - 1
    while last > 0 and held[last] == shape[last]:
        last -= 1
    length = math.prod(held[max(last, 0) :]) * width
    starts = np.zeros(1, np.int64)
    for dim in range(max(last, 0)):
        steps = (offset[dim] + np.arange(held[dim], dtype=np.int64)) * int(strides[dim])
        starts = (starts[:, None] + steps).reshape(-1)
    if shape:
        starts = starts + offset[last] * int(strides[last])
    return PositionRuns(starts, length)
