"""Read one segment: rows with the same parameters and statistics, one file per statistic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from seismograd.record import layout
from seismograd.record.checked_ranges import CheckedRanges, Stretch
from seismograd.record.documents import (
    ColumnChange,
    SegmentInfo,
    change_from_json,
    segment_from_json,
)
from seismograd.record.recorded_files import file_size, read_document, require_directory
from seismograd.record.recorded_lines import read_lines
from seismograd.record.seals import loads_sealed
from seismograd.schema import AnyArray, IntArray, Parameter, State, StateArray, Statistic

_INDEX = np.dtype("<i8")
_STATE = np.dtype("u1")


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

    @property
    def num_parameters(self) -> int:
        """Return P of this segment."""
        return len(self.info.parameters)

    @property
    def num_columns(self) -> int:
        """Return how many columns its files have: P, and spare ones."""
        return self.info.num_columns

    def parameters_at(self, row: int) -> tuple[Parameter, ...]:
        """Return the parameters that were there in a row of the run, as they were known then."""
        if not self.changes:
            return self.info.parameters
        parameters = list(self.first_parameters)
        for change in self.changes:
            if change.first_row > row:
                break
            _apply(change, parameters)
        return tuple(parameters)

    def changed_rows(self, start: int, stop: int) -> list[int]:
        """Return the rows of the run between `start` and `stop` from which columns were others."""
        return sorted({each.first_row for each in self.changes if start < each.first_row < stop})

    def state(self, start: int, stop: int) -> StateArray:
        """Return the states of rows `start` to `stop`; damaged ones are not measured
        # (rows, P).
        """
        states = known_states(
            layout.read_rows(self.path / layout.STATE, _STATE, start, stop, self.num_columns)
        )[:, : self.num_parameters]
        for begin, end in self.damaged_states(start, stop):
            states[begin - start : end - start] = State.NOT_MEASURED
        return states

    def damaged_states(self, start: int, stop: int) -> list[Stretch]:
        """Return the stretches of rows whose states are not what was written."""
        return self.checked.damaged_rows(layout.STATE, self.num_columns, start, stop)

    def damaged_values(self, name: str, start: int, stop: int) -> list[Stretch]:
        """Return the stretches of rows, or of samples, of a statistic that are not what was
        written.
        """
        statistic = self.statistics[name]
        width = self.num_columns * statistic.width
        damaged = self.checked.damaged_rows(
            layout.statistic_file(statistic),
            np.dtype(statistic.dtype).itemsize * width,
            start,
            stop,
        )
        return damaged + self._unplaced(start, stop) if statistic.sampled else damaged

    def damaged_rows(self, start: int, stop: int) -> list[Stretch]:
        """Return the stretches of rows of which anything that is measured at every step is not
        what was written.
        """
        damaged = self.damaged_states(start, stop)
        for name in self.info.statistics:
            damaged += self.damaged_values(name, start, stop)
        return damaged

    def whole_samples(self, start: int, stop: int) -> IntArray:
        """Return the samples from `start` to `stop` of which everything is what was written."""
        whole = np.ones(stop - start, np.bool_)
        for statistic in self.sampled():
            for begin, end in self.damaged_values(statistic.name, start, stop):
                whole[begin - start : end - start] = False
        return start + np.flatnonzero(whole)

    def _unplaced(self, start: int, stop: int) -> list[Stretch]:
        """Return the stretches of samples of which nobody knows in which rows they were taken."""
        return self.checked.damaged_rows(layout.SAMPLE_ROWS, _INDEX.itemsize, start, stop)

    def values(self, name: str, start: int, stop: int) -> AnyArray:
        """Return a statistic in its own dtype: of rows, or of samples for a sampled one; damaged
        ones are NaN, or 0 where that has no NaN  # (rows, P) or (rows, P, W).
        """
        statistic = self.statistics[name]
        shape = (self.num_columns, statistic.width)[: 1 if statistic.width == 1 else 2]
        values = layout.read_rows(
            self.path / layout.statistic_file(statistic),
            np.dtype(statistic.dtype),
            start,
            stop,
            *shape,
        )[:, : self.num_parameters]
        for begin, end in self.damaged_values(name, start, stop):
            values[begin - start : end - start] = np.nan if values.dtype.kind == "f" else 0
        return values

    def holds_all_samples(self, num_samples: int) -> bool:
        """Return whether the log of checksums knows of no more samples than these; false without a
        log.
        """
        logged = self.checked.end(layout.SAMPLE_ROWS)
        return logged is not None and num_samples * _INDEX.itemsize >= logged

    def num_checked_rows(self) -> int | None:
        """Return how many rows there are in the batches that are whole, as the log of checksums
        has them; `None` without one.
        """
        if not self.checked.names or not self.num_columns:
            return None
        levels = {layout.level_file(level) for level in range(1, layout.MAX_LEVEL + 1)}
        end = self.checked.whole_end(layout.STATE, [*{*self.checked.names} - levels])
        return None if end is None else end // self.num_columns

    def sample_rows(self, stop: int) -> IntArray:
        """Return the row numbers in the run of the whole samples before row `stop`  # (S,)."""
        rows = layout.read_rows(
            self.path / layout.SAMPLE_ROWS, _INDEX, 0, self.num_samples()
        ).astype(np.int64, copy=False)
        damaged = self.checked.damaged_rows(layout.SAMPLE_ROWS, _INDEX.itemsize, 0, len(rows))
        for begin, end in damaged:  # nobody knows where they belong: see `damaged_samples`
            rows[begin:end] = rows[begin - 1] if begin else self.info.first_row
        # A tail that never reached the disk is read as zeros.
        lost = np.flatnonzero(np.diff(rows) < (0 if damaged else 1))
        rows = rows[: int(lost[0]) + 1] if len(lost) else rows
        return rows[rows < stop]

    def num_rows(self) -> tuple[int | None, int]:
        """Return how many rows are whole in every file of rows, and how many are begun in any;
        `None` where without parameters there is nothing to count.
        """
        if not self.num_columns:
            return None, 0
        counts = [layout.num_whole_rows(self.path / layout.STATE, _STATE, self.num_columns)]
        for name in self.info.statistics:
            statistic = self.statistics[name]
            path = self.path / layout.statistic_file(statistic)
            counts.append(
                layout.num_whole_rows(
                    path, np.dtype(statistic.dtype), self.num_columns * statistic.width
                )
            )
        return min(whole for whole, _ in counts), max(whole + rest for whole, rest in counts)

    def num_samples(self) -> int:
        """Return how many samples are whole in every file of sampled statistics."""
        counts = [layout.num_whole_rows(self.path / layout.SAMPLE_ROWS, _INDEX)[0]]
        for statistic in self.sampled():
            path, width = (
                self.path / layout.statistic_file(statistic),
                self.num_columns * statistic.width,
            )
            if width:
                counts.append(layout.num_whole_rows(path, np.dtype(statistic.dtype), width)[0])
        return min(counts)

    def sampled(self) -> list[Statistic]:
        """Return the sampled statistics that this segment has."""
        return [
            each
            for each in self.statistics.values()
            if each.sampled and file_size(self.path / layout.statistic_file(each)) is not None
        ]


def _changes(path: Path, info: SegmentInfo) -> Iterator[ColumnChange]:
    """Yield how columns changed, as far as it is told and fits."""
    row, num = info.first_row, len(info.parameters)
    for change in read_lines(path / layout.CHANGES, change_from_json, 0, True).values:
        for column in change.columns:
            if not 0 <= column <= num < info.num_columns + (column < num):
                return
            num += column == num
        if change.first_row < row:
            return
        row = change.first_row
        yield change


def _apply(change: ColumnChange, parameters: list[Parameter]) -> None:
    for column, parameter in zip(change.columns, change.parameters, strict=True):
        parameters[column : column + 1] = [parameter]


def known_states(states: AnyArray) -> StateArray:
    """Return states as read from a file; a byte that is no state counts as not measured."""
    return np.where(states <= max(State), states, State.NOT_MEASURED).astype(np.uint8, copy=False)


def open_segment(
    path: Path, statistics: Mapping[str, Statistic], checked: Sequence[str]
) -> Segment | None:
    """Return the segment in this directory, or `None` when there is none or its `parameters.json`
    is torn; `checked` are the columns of its log of checksums.
    """
    if not require_directory(path.parent) or not require_directory(path):
        return None
    try:
        info = segment_from_json(loads_sealed(read_document(path / layout.PARAMETERS)))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if any(name not in statistics for name in info.statistics):
        return None
    first, changes = info.parameters, ()
    if info.num_columns > len(first):
        changes, last = tuple(_changes(path, info)), list(first)
        for change in changes:
            _apply(change, last)
        info = replace(info, parameters=tuple(last))
    return Segment(path, info, statistics, CheckedRanges(path, checked), first, changes)
