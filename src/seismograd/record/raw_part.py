"""Read rows of a segment, one file per statistic: all of them, or some of a record that keeps raw
values of some steps only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seismograd.record import layout
from seismograd.record.checked_ranges import CheckedRanges, Stretch
from seismograd.record.recorded_files import file_size
from seismograd.schema import AnyArray, IntArray, State, StateArray, Statistic

_INDEX = np.dtype("<i8")
_STATE = np.dtype("u1")


@dataclass(frozen=True, slots=True)
class RawPart:
    """Files of rows in a directory; rows are counted from their own first one, which is `first` of
    the segment and `first_row` of the run. `num_parameters` of the `num_columns` are no spare ones.
    """

    path: Path
    first: int
    first_row: int
    num_columns: int
    num_parameters: int
    names: tuple[str, ...]  # statistics of every row
    statistics: Mapping[str, Statistic]
    checked: CheckedRanges

    def state(self, start: int, stop: int) -> StateArray:
        """Return the states of rows `start` to `stop`; damaged ones are not measured
        # (rows, P).
        """
        states = known_states(
            layout.read_held_rows(self.path / layout.STATE, _STATE, start, stop, self.num_columns)
        )[:, : self.num_parameters]
        for begin, end in self.damaged_states(start, stop):
            states[begin - start : end - start] = State.NOT_MEASURED
        return states

    def damaged_states(self, start: int, stop: int) -> list[Stretch]:
        """Return the stretches of rows whose states are not what was written."""
        return self._damaged(layout.STATE, self.num_columns, start, stop)

    def values(self, name: str, start: int, stop: int) -> AnyArray:
        """Return a statistic in its own dtype: of rows, or of samples for a sampled one; damaged
        ones are NaN, or 0 where that has no NaN  # (rows, P) or (rows, P, W).
        """
        statistic = self.statistics[name]
        shape = (self.num_columns, statistic.width)[: 1 if statistic.width == 1 else 2]
        values = layout.read_held_rows(
            self.path / layout.statistic_file(statistic),
            np.dtype(statistic.dtype),
            start,
            stop,
            *shape,
        )[:, : self.num_parameters]
        for begin, end in self.damaged_values(name, start, stop):
            values[begin - start : end - start] = np.nan if values.dtype.kind == "f" else 0
        return values

    def damaged_values(self, name: str, start: int, stop: int) -> list[Stretch]:
        """Return the stretches of rows, or of samples, of a statistic that are not what was
        written.
        """
        statistic = self.statistics[name]
        row_bytes = np.dtype(statistic.dtype).itemsize * self.num_columns * statistic.width
        damaged = self._damaged(layout.statistic_file(statistic), row_bytes, start, stop)
        if not statistic.sampled:
            return damaged
        # of some samples nobody knows in which rows they were taken
        return damaged + self.checked.damaged_rows(layout.SAMPLE_ROWS, _INDEX.itemsize, start, stop)

    def _damaged(self, name: str, row_bytes: int, start: int, stop: int) -> list[Stretch]:
        """Return the stretches of rows of a file that are not what was written, or not there."""
        damaged = self.checked.damaged_rows(name, row_bytes, start, stop)
        if row_bytes:
            num_held = (file_size(self.path / name) or 0) // row_bytes
            if max(start, num_held) < stop:
                damaged.append((max(start, num_held), stop))
        return damaged

    def num_logged_samples(self) -> int | None:
        """Return how many samples the log of checksums knows of; `None` without a log."""
        logged = self.checked.end(layout.SAMPLE_ROWS)
        return None if logged is None else -(-logged // _INDEX.itemsize)

    def num_checked_rows(self) -> int | None:
        """Return how many rows there are in the batches that are whole, as the log of checksums
        has them; `None` without one.
        """
        if not self.checked.names or not self.num_columns:
            return None
        levels = {layout.level_file(level) for level in range(1, layout.MAX_LEVEL + 1)}
        end = self.checked.whole_end(layout.STATE, [*{*self.checked.names} - levels])
        return None if end is None else end // self.num_columns

    def sample_rows(self) -> IntArray:
        """Return the row numbers in the run of the whole samples  # (S,)."""
        rows = layout.read_rows(
            self.path / layout.SAMPLE_ROWS, _INDEX, 0, self.num_samples()
        ).astype(np.int64, copy=False)
        damaged = self.checked.damaged_rows(layout.SAMPLE_ROWS, _INDEX.itemsize, 0, len(rows))
        for begin, end in damaged:  # nobody knows where they belong: see `damaged_values`
            rows[begin:end] = rows[begin - 1] if begin else self.first_row
        # A tail that never reached the disk is read as zeros.
        lost = np.flatnonzero(np.diff(rows) < (0 if damaged else 1))
        return rows[: int(lost[0]) + 1] if len(lost) else rows

    def num_rows(self) -> tuple[int, int]:
        """Return how many rows are whole in every file of rows, and how many are begun in any."""
        counts = [layout.num_whole_rows(self.path / layout.STATE, _STATE, self.num_columns)]
        for name in self.names:
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
        if not self.num_columns:  # where rows themselves do not tell which batches are whole
            logged = self.checked.end(layout.SAMPLE_ROWS)
            if logged is not None and logged > counts[0] * _INDEX.itemsize:  # it was cut
                whole = self.checked.whole_end(layout.SAMPLE_ROWS, ()) or 0
                counts.append(whole // _INDEX.itemsize)
        for statistic in self.sampled():
            path, width = (
                self.path / layout.statistic_file(statistic),
                self.num_columns * statistic.width,
            )
            if width:
                counts.append(layout.num_whole_rows(path, np.dtype(statistic.dtype), width)[0])
        return min(counts)

    def sampled(self) -> list[Statistic]:
        """Return the sampled statistics that there are files of."""
        return [
            each
            for each in self.statistics.values()
            if each.sampled and file_size(self.path / layout.statistic_file(each)) is not None
        ]


def known_states(states: AnyArray) -> StateArray:
    """Return states as read from a file; a byte that is no state counts as not measured."""
    return np.where(states <= max(State), states, State.NOT_MEASURED).astype(np.uint8, copy=False)
