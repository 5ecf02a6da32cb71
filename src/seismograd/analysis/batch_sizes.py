"""Compute from the size of a batch how large its gradient may be: a mean over few samples varies
more, a sum over many is larger.
"""

from __future__ import annotations

import math

import numpy as np

from seismograd.analysis.block_rows import integers, numbers
from seismograd.schema import EventFlag, EventKind, FloatArray, RowBatch

COUNT, SIGNAL, NOISE = 0, 1, 2


def batch_sizes(block: RowBatch) -> FloatArray:
    """Return for each iteration over how many samples its losses are, the sum of the weights that
    a mean (1/count) or a sum (1) gives them, and the root of the sum of their squares; NaN where
    not known  # (B, 3).

    A gradient that all samples agree on grows with the second, and what they differ in with the
    third. Factors of the script are none of the batch's size.
    """
    events = block.events[
        (integers(block.events, "kind") == EventKind.BACKWARD)
        & ((integers(block.events, "flags") & int(EventFlag.AGAIN)) == 0)
    ]
    sizes = np.zeros((len(block), 3))
    rows = np.searchsorted(integers(block.steps, "iteration"), integers(events, "iteration"))
    inside = rows < len(block)
    count = numbers(events, "count")[inside]
    is_sum = (integers(events, "flags")[inside] & int(EventFlag.SUMMED)) != 0
    count[count <= 0] = np.nan
    weight = np.where(is_sum, 1.0, 1 / count)
    np.add.at(sizes, rows[inside], np.stack([count, count * weight, count * weight**2], axis=1))
    sizes[:, NOISE] **= 0.5
    sizes[sizes[:, COUNT] == 0] = np.nan  # no backward
    return sizes


def forward_filled(sizes: FloatArray, last: FloatArray) -> FloatArray:
    """Return the sizes with those of the row before where they are not known  # (n, 3): a loss is
    looked at whenever it has another shape. `last` precedes the first row  # (3,).
    """
    known = np.isfinite(sizes).all(axis=1)
    before = np.maximum.accumulate(np.where(known, np.arange(1, len(sizes) + 1), 0))
    return np.concatenate([last[None], sizes])[before]


def expected_growth(size: FloatArray, usual: FloatArray) -> tuple[float, float]:
    """Return by which factor the gradient norm and the loss of a batch may exceed the usual ones
    because of its size: 1 where that is not known, and never less  # (3,), (3,).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        factors = size / usual
    signal, noise = (
        float(factors[each]) if math.isfinite(factors[each]) else 1.0 for each in (SIGNAL, NOISE)
    )
    return max(signal, noise, 1.0), max(signal, 1.0)
