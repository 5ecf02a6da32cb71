"""Read one segment: rows with the same parameters and statistics, one file per statistic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seismograd.record.checked_ranges import CheckedRanges, Stretch, outside
from seismograd.record.raw_part import RawPart
from seismograd.record.segment_documents import ColumnChange, SegmentInfo
from seismograd.schema import AnyArray, IntArray, Parameter, State, StateArray, Statistic


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment on disk; rows are counted from its own first one. `statistics` are those of the
    run's that this segment has files for. `info` has its parameters as last known, of which it
    began with `first_parameters`.
    """

    path: Path
    info: SegmentInfo
    statistics: Mapping[str, Statistic]
    checked: CheckedRanges
    first_parameters: tuple[Parameter, ...]
    changes: tuple[ColumnChange, ...]
    parts: tuple[RawPart, ...]
    num_removed_upto: int = 0  # rows up to the end of the last part that was removed

    @property
    def num_parameters(self) -> int:
        """Return P of this segment."""
        return len(self.info.parameters)

    @property
    def num_columns(self) -> int:
        """Return how many columns its files have: P, and spare ones."""
        return self.info.num_columns

    @property
    def checked_parts(self) -> tuple[CheckedRanges, ...]:
        """Return the checksums of its parts, where these have logs of their own."""
        return tuple(part.checked for part in self.parts) if self.info.rows_per_part else ()

    def parameters_at(self, row: int) -> tuple[Parameter, ...]:
        """Return the parameters that were there in a row of the run, as they were known then."""
        if not self.changes:
            return self.info.parameters
        parameters = list(self.first_parameters)
        for change in self.changes:
            if change.first_row > row:
                break
            apply_change(change, parameters)
        return tuple(parameters)

    def changed_rows(self, start: int, stop: int) -> list[int]:
        """Return the rows of the run between `start` and `stop` from which columns were others."""
        return sorted({each.first_row for each in self.changes if start < each.first_row < stop})

    def state(self, start: int, stop: int) -> StateArray:
        """Return the states of rows `start` to `stop`; those that are damaged, or not kept, are not
        measured  # (rows, P).
        """
        states = np.full((stop - start, self.num_parameters), State.NOT_MEASURED, np.uint8)
        for part, begin, end in self.pieces(start, stop):
            states[begin - start : end - start] = part.state(begin - part.first, end - part.first)
        return states

    def values(self, name: str, start: int, stop: int) -> AnyArray:
        """Return a statistic in its own dtype: of rows, or of samples for a sampled one; those that
        are damaged or not kept are NaN, or 0 where that has no NaN  # (rows, P) or (rows, P, W).
        """
        statistic = self.statistics[name]
        dtype = np.dtype(statistic.dtype)
        shape = (stop - start, self.num_parameters, statistic.width)[: 2 + (statistic.width > 1)]
        values: AnyArray = np.full(shape, np.nan if dtype.kind == "f" else 0, dtype)
        for part, offset, begin, end in self._pieces_of(statistic, start, stop):
            values[begin - start : end - start] = part.values(name, begin - offset, end - offset)
        return values

    def damaged_values(self, name: str, start: int, stop: int) -> list[Stretch]:
        """Return the stretches of rows, or of samples, of a statistic that are not what was
        written.
        """
        return [
            (low + offset, high + offset)
            for part, offset, begin, end in self._pieces_of(self.statistics[name], start, stop)
            for low, high in part.damaged_values(name, begin - offset, end - offset)
        ]

    def damaged_states(self, start: int, stop: int) -> list[Stretch]:
        """Return the stretches of rows whose states are not what was written."""
        return [
            (low + part.first, high + part.first)
            for part, begin, end in self.pieces(start, stop)
            for low, high in part.damaged_states(begin - part.first, end - part.first)
        ]

    def unknown_rows(self, start: int, stop: int) -> list[Stretch]:
        """Return the stretches of rows of which anything that is measured at every step is not
        what was written, or not kept.
        """
        unknown = [*self.not_kept(start, stop), *self.damaged_states(start, stop)]
        for name in self.info.statistics:
            unknown += self.damaged_values(name, start, stop)
        return unknown

    def not_kept(self, start: int, stop: int) -> list[Stretch]:
        """Return the stretches of rows whose raw values were removed: there are summaries alone."""
        kept = [(begin, end) for _, begin, end in self.pieces(start, stop)]
        return list(outside(kept, start, stop))

    def pieces(self, start: int, stop: int) -> Iterator[tuple[RawPart, int, int]]:
        """Yield the parts that hold rows between `start` and `stop`, with the first of these and
        the one after the last.
        """
        size = self.info.rows_per_part or stop
        for part in self.parts:
            begin, end = max(start, part.first), min(stop, part.first + size)
            if begin < end:
                yield part, begin, end

    def part_of_sample(self, sample: int) -> tuple[RawPart, int]:
        """Return the part that holds a sample, and the number of the sample in it."""
        offset = 0
        for part in self.parts:
            num = part.num_samples()
            if sample < offset + num:
                return part, sample - offset
            offset += num
        raise IndexError(sample)

    def _pieces_of(
        self, statistic: Statistic, start: int, stop: int
    ) -> Iterator[tuple[RawPart, int, int, int]]:
        """Yield the parts that hold rows, or samples for a sampled statistic, likewise, and what
        the first in the part is to the segment.
        """
        if not statistic.sampled:
            for part, begin, end in self.pieces(start, stop):
                yield part, part.first, begin, end
            return
        offset = 0
        for part in self.parts:
            end = stop if len(self.parts) == 1 else min(stop, offset + part.num_samples())
            if max(start, offset) < end:
                yield part, offset, max(start, offset), end
            offset = end

    def whole_samples(self, start: int, stop: int) -> IntArray:
        """Return the samples from `start` to `stop` of which everything is what was written."""
        whole = np.ones(stop - start, np.bool_)
        for statistic in self.sampled():
            for begin, end in self.damaged_values(statistic.name, start, stop):
                whole[begin - start : end - start] = False
        return start + np.flatnonzero(whole)

    def holds_all_samples(self, num_samples: int) -> bool:
        """Return whether the logs of checksums know of no more samples than these; false without a
        log, and without parameters: nothing shows then that the log itself was not cut.
        """
        if not self.num_columns:
            return False
        logged = [part.num_logged_samples() for part in self.parts]
        return None not in logged and num_samples >= sum(each or 0 for each in logged)

    def num_checked_rows(self) -> int | None:
        """Return how many rows there are in the batches that are whole, as the log of checksums
        has them; `None` without one.
        """
        if not self.num_columns:
            return None
        if not self._ends_with_a_part():
            return self.num_removed_upto
        num = self.parts[-1].num_checked_rows()
        return None if num is None else self.parts[-1].first + num

    def sample_rows(self, stop: int) -> IntArray:
        """Return the row numbers in the run of the whole samples before row `stop`  # (S,)."""
        rows = [np.empty(0, np.int64), *(part.sample_rows() for part in self.parts)]
        joined = rows[-1] if len(rows) == 2 else np.concatenate(rows)
        return joined[joined < stop]

    def num_rows(self) -> tuple[int | None, int]:
        """Return how many rows are whole in every file of rows, and how many are begun in any;
        `None` where without parameters there is nothing to count.
        """
        if not self.num_columns:
            return None, 0
        if not self._ends_with_a_part():
            return self.num_removed_upto, self.num_removed_upto
        last = self.parts[-1]
        whole, begun = last.num_rows()
        return last.first + whole, last.first + begun

    def _ends_with_a_part(self) -> bool:
        return bool(self.parts) and self.parts[-1].first >= self.num_removed_upto

    @property
    def first_countable_row(self) -> int:
        """Return the first row of the run that may lack a sample because it was cut off."""
        return self.parts[-1].first_row if self.parts else self.info.first_row

    def sampled(self) -> list[Statistic]:
        """Return the sampled statistics that this segment has."""
        names = {each.name for part in self.parts for each in part.sampled()}
        return [each for each in self.statistics.values() if each.name in names]


def apply_change(change: ColumnChange, parameters: list[Parameter]) -> None:
    """Put what a change tells in the place of what was known of these columns."""
    for column, parameter in zip(change.columns, change.parameters, strict=True):
        parameters[column : column + 1] = [parameter]
