"""Select the iterations of a block that a rule reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from seismograd.schema import (
    AnyArray,
    EventFlag,
    EventKind,
    FloatArray,
    IntArray,
    Parameter,
    RankFlag,
    RowBatch,
    State,
    StepFlag,
)
from seismograd.schema import BoolArray as BoolArray

_UNUSED = int(StepFlag.SKIPPED | StepFlag.NO_BACKWARD)


def skipped_by_scaler(steps: AnyArray) -> BoolArray:
    """Return the iterations whose updates a GradScaler has skipped, and not the guard  # (B,)."""
    guarded = int(StepFlag.SKIPPED | StepFlag.GUARDED)
    return (integers(steps, "flags") & guarded) == int(StepFlag.SKIPPED)


def as_list(positions: IntArray) -> list[int]:
    """Return row or column numbers as Python's own integers."""
    return [int(position) for position in positions]


def distinct(values: IntArray) -> list[int]:
    """Return the distinct numbers in ascending order; `np.unique` imports `numpy.ma`, which takes
    20 ms at the first step.
    """
    return sorted(set(values.tolist()))


def integers(records: AnyArray, name: str) -> IntArray:
    """Return a column of integers of `RowBatch.steps` or `RowBatch.events`."""
    return np.asarray(records[name], np.int64)


def numbers(records: AnyArray, name: str) -> FloatArray:
    """Return a column of real numbers of `RowBatch.steps` or `RowBatch.events`."""
    return np.asarray(records[name], np.float64)


def flagged(records: AnyArray, flag: StepFlag | EventFlag | RankFlag) -> BoolArray:
    """Return which entries of `RowBatch.steps`, `events` or `ranks` have a flag, or one of
    several.
    """
    return (integers(records, "flags") & int(flag)) != 0


def iteration_at(block: RowBatch, row: int) -> int:
    """Return the iteration of a row."""
    return int(block.steps["iteration"][row])


def columns_where(parameters: Sequence[Parameter], wanted: Callable[[Parameter], bool]) -> IntArray:
    """Return the columns of the parameters for which this holds."""
    return np.array([column for column, each in enumerate(parameters) if wanted(each)], np.int64)


def names_at(block: RowBatch, columns: IntArray) -> tuple[str, ...]:
    """Return the names of the parameters in these columns."""
    return tuple(block.parameters[column].name for column in as_list(columns))


def runs(values: IntArray) -> list[tuple[int, slice]]:
    """Return each number of an ascending list, and where it occurs in it."""
    starts = np.flatnonzero(np.diff(values, prepend=values[:1] - 1))
    edges = [*starts.tolist(), len(values)]
    return [(int(values[start]), slice(start, stop)) for start, stop in pairwise(edges)]


def statistic(block: RowBatch, name: str) -> FloatArray:
    """Return a statistic of every iteration  # (B, P)."""
    return np.asarray(block.values[name], np.float64)


def weight_norms(block: RowBatch, row: int) -> FloatArray | None:
    """Return the norms of the weights  # (P,), where they were sampled in this row."""
    sampled = np.flatnonzero(block.sample_rows == row)
    if not len(sampled) or "weight_norm" not in block.samples:
        return None
    return np.asarray(block.samples["weight_norm"][sampled[0]], np.float64)


def updates(block: RowBatch) -> BoolArray:
    """Return where a new gradient was used by an update: neither skipped nor used a second time
    # (B,).
    """
    return (integers(block.steps, "flags") & _UNUSED) == 0


def by_optimizer(block: RowBatch, wanted: BoolArray) -> list[tuple[int, IntArray]]:
    """Return the wanted rows  # (B,), in order, by the optimizer that stepped first in them."""
    rows = np.flatnonzero(wanted)
    if not len(rows):
        return []
    optimizer = integers(block.steps, "optimizer")
    first = int(optimizer[rows[0]])
    if len(rows) == 1 or (optimizer[rows] == first).all():
        return [(first, rows)]
    return [(each, rows[optimizer[rows] == each]) for each in distinct(optimizer[rows])]


def line_at(block: RowBatch, site: int) -> str:
    """Return `file:line` of a site by its index, empty when there is none."""
    return str(block.sites[site]) if 0 <= site < len(block.sites) else ""


def site_of(block: RowBatch, kind: EventKind, iteration: int, optimizer: int | None = None) -> str:
    """Return `file:line` of the first event of this kind in an iteration (of this optimizer), empty
    when there is none.
    """
    wanted = (integers(block.events, "iteration") == iteration) & (
        integers(block.events, "kind") == kind
    )
    if optimizer is not None:
        wanted &= integers(block.events, "optimizer") == optimizer
    at = np.flatnonzero(wanted)
    return line_at(block, int(integers(block.events, "site")[at[0]]) if len(at) else -1)


def largest_parameters(block: RowBatch, row: int) -> tuple[str, ...]:
    """Return the parameters that make nine tenths of the squared norm, in the order of the
    columns.
    """
    norm = np.where(block.state[row] == State.FINITE, statistic(block, "grad_norm")[row], 0.0)
    square = (norm / norm.max()) ** 2
    order = np.argsort(-square, kind="stable")
    share = np.cumsum(square[order])
    num = int(np.count_nonzero(share < 0.9 * share[-1])) + 1
    return names_at(block, np.sort(order[:num]))
