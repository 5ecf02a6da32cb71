"""Single iterations to blocks, in the dtypes of the record: whoever reads a block reads the same numbers live as from the disk later."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import numpy as np

from seismograd.record import layout
from seismograd.schema import EVENT_DTYPE, PAIR_DTYPE, RANK_DTYPE, STATISTICS, STEP_DTYPE, AnyArray, Block, Note, Optimizer, Row, Site

_STATISTICS = {statistic.name: statistic for statistic in STATISTICS}
_OBJECT_BYTES = 128  # of an array or another small object, beside its numbers


def row_bytes(row: Row) -> int:
    """Memory that a waiting row takes, roughly, not less than its numbers do: 8 bytes each, for this is asked at every step."""
    num_arrays = 9 + len(row.values)
    num = 8 * row.state.size * (1 + len(row.values)) + row.events.nbytes + row.ranks.nbytes + row.pairs.nbytes + row.elements.nbytes
    for values in row.samples.values():
        num_arrays += 1
        num += values.nbytes
    return num + _OBJECT_BYTES * num_arrays


def take_batch(queue: deque[Row | Note], max_bytes: int) -> list[Row]:
    """Take the rows of one block from the front, where there is a row: at least it, and those behind it that have the same columns."""
    batch: list[Row] = []
    num_bytes = 0
    sampled: AbstractSet[str] = frozenset()
    while queue and isinstance(row := queue[0], Row):
        num_bytes += row_bytes(row)
        mixed_samples = bool(row.samples) and bool(sampled) and row.samples.keys() != sampled
        if batch and (num_bytes > max_bytes or mixed_samples or not _same_columns(batch[0], row)):
            break
        sampled = sampled or row.samples.keys()
        batch.append(row)
        queue.popleft()
    return batch


def block_of(rows: Sequence[Row], sites: Sequence[Site], optimizers: Sequence[Optimizer]) -> Block:
    """The block of a batch of `take_batch`."""
    parameters = rows[0].parameters
    sample_rows = [index for index, row in enumerate(rows) if row.samples]
    steps = np.array([row.step for row in rows], STEP_DTYPE)
    steps["sampled"] = 0
    steps["sampled"][sample_rows] = 1
    return Block(
        parameters=parameters,
        steps=steps,
        state=np.array([row.state for row in rows], np.uint8).reshape(len(rows), len(parameters)),
        values={name: _column(name, [row.values[name] for row in rows]) for name in rows[0].values},
        sample_rows=np.array(sample_rows, np.int64),
        samples=_samples([rows[index] for index in sample_rows], len(parameters)),
        events=np.concatenate([row.events for row in rows], dtype=EVENT_DTYPE),
        elements=np.array([row.elements for row in rows], np.float64).reshape(len(rows), -1 if rows[0].elements.size else 0),
        sites=sites,
        optimizers=optimizers,
        ranks=np.concatenate([row.ranks for row in rows], dtype=RANK_DTYPE),
        pairs=np.concatenate([row.pairs for row in rows], dtype=PAIR_DTYPE),
    )


def no_samples(num_parameters: int) -> dict[str, AnyArray]:
    """The samples of a block without any: every sampled statistic, zero times  # (0, P) or (0, P, W)."""
    return {
        each.name: np.empty((0, num_parameters) if each.width == 1 else (0, num_parameters, each.width), each.dtype)
        for each in STATISTICS
        if each.sampled
    }


def _same_columns(one: Row, other: Row) -> bool:
    same_parameters = one.parameters is other.parameters or one.parameters == other.parameters
    return same_parameters and one.values.keys() == other.values.keys() and one.elements.size == other.elements.size


def _samples(rows: Sequence[Row], num_parameters: int) -> dict[str, AnyArray]:
    if not rows:
        return no_samples(num_parameters)
    return {name: _column(name, [row.samples[name] for row in rows]) for name in rows[0].samples}


def _column(name: str, values: Sequence[AnyArray]) -> AnyArray:
    return layout.recorded(np.array(values), _STATISTICS[name].dtype)
