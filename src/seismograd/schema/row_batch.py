"""Iterations on their way from the session to the rules and the record.

Shapes: B consecutive iterations, S of them sampled, P parameters, W numbers per parameter, E
elements.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from seismograd.schema.arrays import AnyArray, FloatArray, IntArray, StateArray
from seismograd.schema.entries import (
    EVENT_DTYPE,
    PAIR_DTYPE,
    RANK_DTYPE,
    STEP_DTYPE,
    no_pairs,
    no_ranks,
)
from seismograd.schema.parameters import Optimizer, Parameter, Site
from seismograd.schema.recorded_dtype import joined
from seismograd.schema.statistics import STATISTICS

_DTYPES = {statistic.name: statistic.dtype for statistic in STATISTICS}


@dataclass(frozen=True, slots=True)
class RowBatch:
    """Consecutive iterations with the same parameters, a row for each.

    `values` holds each statistic of every iteration  # (B, P); `samples` the sampled ones  # (S, P)
    or (S, P, W), at the iterations whose row numbers within the batch are `sample_rows`  # (S,). A
    number is meaningful only where `state`  # (B, P) is not NOT_MEASURED or ABSENT. `events` are
    those of these iterations in order; `sites` and `optimizers` are what their indices point into,
    and may grow after the batch was made.
    """

    parameters: tuple[Parameter, ...]
    steps: AnyArray  # (B,), STEP_DTYPE
    state: StateArray
    values: Mapping[str, AnyArray]
    sample_rows: IntArray
    samples: Mapping[str, AnyArray]
    events: AnyArray  # EVENT_DTYPE
    elements: FloatArray  # (B, E); NaN: not measured
    sites: Sequence[Site]
    optimizers: Sequence[Optimizer]
    # RANK_DTYPE, in the order of iterations; empty for a single process
    ranks: AnyArray = field(default_factory=no_ranks)
    pairs: AnyArray = field(default_factory=no_pairs)  # PAIR_DTYPE, in the order of iterations
    # by the number of the row: those of all gradients, NaN where not measured  # (P, SKETCH_WIDTH)
    sketches: Mapping[int, FloatArray] = field(default_factory=dict[int, FloatArray])

    def __len__(self) -> int:
        return len(self.steps)

    def rows(self, start: int, stop: int) -> RowBatch:
        """Return rows `start` to `stop`."""
        return self._rows(start, stop, self._ends())

    def split(self, size: int) -> Iterator[RowBatch]:
        """Yield the rows in batches of `size`; the last one holds what is left."""
        # Once for all of them: each needs a pass over the entries.
        ends = self._ends()
        for start in range(0, len(self), size):
            yield self._rows(start, min(start + size, len(self)), ends)

    def _rows(self, start: int, stop: int, ends: Sequence[IntArray]) -> RowBatch:
        events, ranks, pairs = (
            entries[of_rows[start] : of_rows[stop]]
            for entries, of_rows in zip((self.events, self.ranks, self.pairs), ends, strict=True)
        )
        from_sample, to_sample = np.searchsorted(self.sample_rows, (start, stop)).tolist()
        return RowBatch(
            parameters=self.parameters,
            steps=self.steps[start:stop],
            state=self.state[start:stop],
            values={name: values[start:stop] for name, values in self.values.items()},
            sample_rows=self.sample_rows[from_sample:to_sample] - start,
            samples={name: values[from_sample:to_sample] for name, values in self.samples.items()}
            if from_sample < to_sample
            else no_samples(len(self.parameters)),
            events=events,
            elements=self.elements[start:stop],
            sites=self.sites,
            optimizers=self.optimizers,
            ranks=ranks,
            pairs=pairs,
            sketches={
                row - start: each for row, each in self.sketches.items() if start <= row < stop
            },
        )

    def _ends(self) -> list[IntArray]:
        """Return where the events, ranks and pairs of each row begin and end  # (B + 1,) each."""
        start = np.zeros(1, np.int64)
        return [
            np.concatenate([start, row_ends(entries, self.steps)])
            for entries in (self.events, self.ranks, self.pairs)
        ]


def row_ends(entries: npt.NDArray[Any], steps: npt.NDArray[Any]) -> IntArray:
    """Return the number of entries up to and with each of the rows  # (B,); an entry belongs to the
    first row that is not before it.
    """
    if not len(entries):
        return np.zeros(len(steps), np.int64)
    ends = np.searchsorted(entries["iteration"], steps["iteration"], side="right")
    ends[-1] = len(entries)
    return np.maximum.accumulate(ends)


@lru_cache(maxsize=8)
def no_samples(num_parameters: int) -> Mapping[str, AnyArray]:
    """Return the samples of a batch without any: every sampled statistic, zero times  # (0, P) or
    (0, P, W).
    """
    return {
        each.name: np.empty(
            (0, num_parameters) if each.width == 1 else (0, num_parameters, each.width), each.dtype
        )
        for each in STATISTICS
        if each.sampled
    }


def concatenate(batches: Sequence[RowBatch]) -> RowBatch:
    """Return batches of the same columns as one, in arrays of its own, in the dtypes of the record:
    whoever reads it reads the same numbers as from the disk later.
    """
    first = batches[0]
    num_parameters = len(first.parameters)
    steps = _entries([batch.steps for batch in batches], STEP_DTYPE)
    starts = np.cumsum([0, *map(len, batches)]).tolist()
    sample_rows = np.concatenate(
        [batch.sample_rows + start for batch, start in zip(batches, starts, strict=False)],
        dtype=np.int64,
    )
    steps["sampled"] = 0
    steps["sampled"][sample_rows] = 1
    sampled = [batch for batch in batches if len(batch.sample_rows)]
    return RowBatch(
        parameters=first.parameters,
        steps=steps,
        state=np.concatenate(
            [batch.state for batch in batches], dtype=np.uint8, casting="unsafe"
        ).reshape(len(steps), num_parameters),
        values={
            name: _column(name, [batch.values[name] for batch in batches]) for name in first.values
        },
        sample_rows=sample_rows,
        samples={
            name: _column(name, [batch.samples[name] for batch in sampled])
            for name in sampled[0].samples
        }
        if sampled
        else no_samples(num_parameters),
        events=_entries([batch.events for batch in batches], EVENT_DTYPE),
        elements=np.concatenate([batch.elements for batch in batches], dtype=np.float64),
        sites=first.sites,
        optimizers=first.optimizers,
        ranks=_entries([batch.ranks for batch in batches], RANK_DTYPE),
        pairs=_entries([batch.pairs for batch in batches], PAIR_DTYPE),
        sketches={
            start + row: each
            for batch, start in zip(batches, starts, strict=False)
            for row, each in batch.sketches.items()
        },
    )


def _entries(parts: Sequence[AnyArray], dtype: np.dtype[Any]) -> AnyArray:
    """Return the parts as one, by their bytes where they can be: NumPy copies field by field."""
    if any(part.dtype != dtype for part in parts):
        return np.concatenate(parts, dtype=dtype)
    whole = np.dtype((np.void, dtype.itemsize))
    return np.concatenate([part.view(whole) for part in parts]).view(dtype)


def _column(name: str, values: Sequence[AnyArray]) -> AnyArray:
    return joined(values, _DTYPES[name])
