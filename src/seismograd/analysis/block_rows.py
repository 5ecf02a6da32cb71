"""Which iterations of a block a rule looks at."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from seismograd.i18n import Message, say
from seismograd.schema import AnyArray, EventKind, FloatArray, IntArray, RowBatch, StepFlag

BoolArray = npt.NDArray[np.bool_]

_UNUSED = int(StepFlag.SKIPPED | StepFlag.NO_BACKWARD)


def as_list(positions: IntArray) -> list[int]:
    """Row or column numbers as Python's own."""
    return [int(position) for position in positions]


def distinct(values: IntArray) -> list[int]:
    """The numbers among these, in ascending order; `np.unique` imports `numpy.ma`, which takes
    20 ms at the first step.
    """
    return sorted(set(values.tolist()))


def integers(records: AnyArray, name: str) -> IntArray:
    """A column of whole numbers of `RowBatch.steps` or `RowBatch.events`."""
    return np.asarray(records[name], np.int64)


def numbers(records: AnyArray, name: str) -> FloatArray:
    """A column of real numbers of `RowBatch.steps` or `RowBatch.events`."""
    return np.asarray(records[name], np.float64)


def columns(records: AnyArray, *names: str) -> Iterator[tuple[Any, ...]]:
    """Yield these fields of each entry of `RowBatch.steps` or `RowBatch.events`, as Python's own
    numbers: for few entries faster than arrays are.
    """
    return zip(*(records[name].tolist() for name in names), strict=True)


def runs(values: IntArray) -> list[tuple[int, slice]]:
    """Each number of an ascending list, and where it stands in it."""
    starts = np.flatnonzero(np.diff(values, prepend=values[:1] - 1))
    edges = [*starts.tolist(), len(values)]
    return [(int(values[start]), slice(start, stop)) for start, stop in pairwise(edges)]


def statistic(block: RowBatch, name: str) -> FloatArray:
    """A statistic of every iteration  # (B, P)."""
    return np.asarray(block.values[name], np.float64)


def weight_norms(block: RowBatch, row: int) -> FloatArray | None:
    """The norms of the weights  # (P,), where they were sampled in this row."""
    sampled = np.flatnonzero(block.sample_rows == row)
    if not len(sampled) or "weight_norm" not in block.samples:
        return None
    return np.asarray(block.samples["weight_norm"][sampled[0]], np.float64)


def updates(block: RowBatch) -> BoolArray:
    """Where a new gradient went into an update: neither skipped nor used a second time  # (B,)."""
    return (integers(block.steps, "flags") & _UNUSED) == 0


def by_optimizer(block: RowBatch, wanted: BoolArray) -> list[tuple[int, IntArray]]:
    """The wanted rows  # (B,), in order, by the optimizer that stepped first in them."""
    rows = np.flatnonzero(wanted)
    if not len(rows):
        return []
    optimizer = integers(block.steps, "optimizer")
    first = int(optimizer[rows[0]])
    if len(rows) == 1 or (optimizer[rows] == first).all():
        return [(first, rows)]
    return [(each, rows[optimizer[rows] == each]) for each in distinct(optimizer[rows])]


def line_at(block: RowBatch, site: int) -> str:
    """`file:line` of a site by its index, empty when there is none."""
    return str(block.sites[site]) if 0 <= site < len(block.sites) else ""


def site_of(block: RowBatch, kind: EventKind, iteration: int, optimizer: int | None = None) -> str:
    """`file:line` of the first event of this kind in an iteration (of this optimizer), empty
    when there is none.
    """
    wanted = (integers(block.events, "iteration") == iteration) & (
        integers(block.events, "kind") == kind
    )
    if optimizer is not None:
        wanted &= integers(block.events, "optimizer") == optimizer
    at = np.flatnonzero(wanted)
    return line_at(block, int(integers(block.events, "site")[at[0]]) if len(at) else -1)


def num_unheard(block: RowBatch) -> int:
    """How many rows are of steps whose backwards and clips were compiled."""
    return int(np.count_nonzero(integers(block.steps, "flags") & int(StepFlag.UNHEARD)))


def unheard(count: int) -> Message:
    """Why a rule could not look at these."""
    return say(
        "backward was compiled in {count} steps, so neither it nor a clip was heard", count=count
    )
