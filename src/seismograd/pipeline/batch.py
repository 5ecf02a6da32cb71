"""Convert iterations to blocks in the dtypes of the record: live readers see the same numbers as
later readers of the disk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import numpy as np

from seismograd.record import layout
from seismograd.record.no_samples import no_samples
from seismograd.schema import (
    EVENT_DTYPE,
    PAIR_DTYPE,
    RANK_DTYPE,
    STATISTICS,
    STEP_DTYPE,
    AnyArray,
    Fact,
    Note,
    Optimizer,
    Row,
    RowBatch,
    Rows,
    Site,
)

_STATISTICS = {statistic.name: statistic for statistic in STATISTICS}
_OBJECT_BYTES = 128  # of an array or another small object, beside its numbers


def num_rows(item: Row | Rows) -> int:
    """Return how many iterations it is."""
    return 1 if isinstance(item, Row) else len(item)


def row_bytes(item: Row | Rows) -> int:
    """Return the memory it takes while it waits: an upper estimate, 8 bytes per number, because
    this is computed at every step.
    """
    num_arrays = 9 + len(item.values)
    num = (
        8 * item.state.size * (1 + len(item.values))
        + item.events.nbytes
        + item.ranks.nbytes
        + item.pairs.nbytes
        + item.elements.nbytes
    )
    for values in item.samples.values():
        num_arrays += 1
        num += values.nbytes
    return num + _OBJECT_BYTES * num_arrays


def take_batch(queue: deque[Row | Rows | Note | Fact], max_bytes: int) -> list[Row | Rows]:
    """Take from the front, where there is neither a note nor a fact, what makes one block: at least
    one row, and those behind it with the same columns.
    """
    batch: list[Row | Rows] = []
    num_bytes = 0
    sampled: AbstractSet[str] = frozenset()
    while queue and not isinstance(item := queue[0], Note | Fact):
        num_bytes += row_bytes(item)
        mixed_samples = bool(item.samples) and bool(sampled) and item.samples.keys() != sampled
        if batch and (num_bytes > max_bytes or mixed_samples or not _same_columns(batch[0], item)):
            break
        sampled = sampled or item.samples.keys()
        batch.append(item)
        queue.popleft()
    return batch


def block_of(
    items: Sequence[Row | Rows], sites: Sequence[Site], optimizers: Sequence[Optimizer]
) -> RowBatch:
    """Return the block of a batch from `take_batch`."""
    batch = [Rows.of(item) if isinstance(item, Row) else item for item in items]
    parameters = batch[0].parameters
    steps = np.concatenate([rows.steps for rows in batch], dtype=STEP_DTYPE)
    starts = np.cumsum([0, *map(len, batch)])
    sample_rows = np.concatenate(
        [rows.sample_rows + start for rows, start in zip(batch, starts.tolist(), strict=False)],
        dtype=np.int64,
    )
    steps["sampled"] = 0
    steps["sampled"][sample_rows] = 1
    return RowBatch(
        parameters=parameters,
        steps=steps,
        state=np.concatenate(
            [rows.state for rows in batch], dtype=np.uint8, casting="unsafe"
        ).reshape(len(steps), len(parameters)),
        values={
            name: _column(name, [rows.values[name] for rows in batch]) for name in batch[0].values
        },
        sample_rows=sample_rows,
        samples=_samples([rows for rows in batch if rows.samples], len(parameters)),
        events=np.concatenate([rows.events for rows in batch], dtype=EVENT_DTYPE),
        elements=np.concatenate([rows.elements for rows in batch], dtype=np.float64),
        sites=sites,
        optimizers=optimizers,
        ranks=np.concatenate([rows.ranks for rows in batch], dtype=RANK_DTYPE),
        pairs=np.concatenate([rows.pairs for rows in batch], dtype=PAIR_DTYPE),
    )


def _same_columns(one: Row | Rows, other: Row | Rows) -> bool:
    same_parameters = one.parameters is other.parameters or one.parameters == other.parameters
    return (
        same_parameters
        and one.values.keys() == other.values.keys()
        and one.elements.shape[-1:] == other.elements.shape[-1:]
    )


def _samples(batch: Sequence[Rows], num_parameters: int) -> dict[str, AnyArray]:
    if not batch:
        return no_samples(num_parameters)
    return {
        name: _column(name, [rows.samples[name] for rows in batch]) for name in batch[0].samples
    }


def _column(name: str, values: Sequence[AnyArray]) -> AnyArray:
    return layout.recorded(np.concatenate(values), _STATISTICS[name].dtype)
