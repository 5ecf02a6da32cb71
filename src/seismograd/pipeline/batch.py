"""What waits in the queue of the pump: how large it is, and what of it goes out together."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from seismograd.schema import Fact, Note, RowBatch, SampleBatch

Queued = RowBatch | Note | Fact | SampleBatch

_OBJECT_BYTES = 128  # of an array or another small object, beside its numbers
_BLOCK_BYTES = 2**21  # judging and writing a block takes about twice what it has
_LEAST_ROWS = 8  # sinks cost about as much per block as for so many rows


def batch_bytes(batch: RowBatch) -> int:
    """Return the memory that a batch takes while it waits, roughly, not less than its numbers do: 8
    bytes each, for this is asked at every step.
    """
    num_arrays = 9 + len(batch.values)
    num = (
        8 * batch.state.size * (1 + len(batch.values))
        + batch.events.nbytes
        + batch.ranks.nbytes
        + batch.pairs.nbytes
        + batch.elements.nbytes
    )
    if len(batch.sample_rows):
        for values in batch.samples.values():
            num_arrays += 1
            num += values.nbytes
    for sketches in batch.sketches.values():
        num_arrays += 1
        num += sketches.nbytes
    return num + _OBJECT_BYTES * num_arrays


def block_limit(batch: RowBatch, max_bytes: int) -> int:
    """Return how many bytes a block of such rows may have: what judging and writing it takes stays
    with the process, so it is little; but never so little that a block is hardly a row, and at most
    a quarter of the `max_bytes` that may wait, since making one copies it.
    """
    few_rows = _LEAST_ROWS * 8 * batch.state.shape[1] * (1 + len(batch.values))
    return min(max(_BLOCK_BYTES, few_rows), max_bytes // 4)


def sample_bytes(batch: SampleBatch) -> int:
    """Return the memory that what was sampled takes while it waits, roughly."""
    return batch.nbytes + _OBJECT_BYTES * (2 + len(batch))


def rows_together(items: Iterable[Queued]) -> list[Queued]:
    """Return what waits with samples before the rows that are next to them, as they nearly always
    come before those of their step, so that rows are behind each other: sinks cost about as much
    per block as per row.
    """
    ordered, rows = list[Queued](), list[Queued]()
    for item in items:
        if isinstance(item, RowBatch):
            rows.append(item)
            continue
        if not isinstance(item, SampleBatch):  # what a fact or a note is about comes before it
            ordered += rows
            rows.clear()
        ordered.append(item)
    return ordered + rows


def take_batches(queue: deque[Queued], max_bytes: int) -> list[RowBatch]:
    """Take what can be made one batch from the front, where there are only rows: at least
    one, and those behind it that have the same columns.
    """
    taken: list[RowBatch] = []
    num_bytes = 0
    sampled: AbstractSet[str] = frozenset()
    while queue and not isinstance(batch := queue[0], Note | Fact | SampleBatch):
        num_bytes += batch_bytes(batch)
        samples = batch.samples.keys() if len(batch.sample_rows) else frozenset[str]()
        mixed_samples = bool(samples) and bool(sampled) and samples != sampled
        if taken and (num_bytes > max_bytes or mixed_samples or not _same_columns(taken[0], batch)):
            break
        sampled = sampled or samples
        taken.append(batch)
        queue.popleft()
    return taken


def _same_columns(one: RowBatch, other: RowBatch) -> bool:
    same_parameters = one.parameters is other.parameters or one.parameters == other.parameters
    return (
        same_parameters
        and one.values.keys() == other.values.keys()
        and one.elements.shape[1] == other.elements.shape[1]
    )
