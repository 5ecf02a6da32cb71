"""Read one segment: rows with the same parameters and statistics, one file per statistic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seismograd.record import layout
from seismograd.record.documents import SegmentInfo, segment_from_json
from seismograd.record.recorded_files import file_size, read_document, require_directory
from seismograd.record.strict_json import loads
from seismograd.schema import AnyArray, IntArray, State, StateArray, Statistic

_INDEX = np.dtype("<i8")
_STATE = np.dtype("u1")


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment on disk; rows are counted from its own first one. `statistics` are those of the
    run's that this segment has files for.
    """

    path: Path
    info: SegmentInfo
    statistics: Mapping[str, Statistic]

    @property
    def num_parameters(self) -> int:
        """Return P of this segment."""
        return len(self.info.parameters)

    def state(self, start: int, stop: int) -> StateArray:
        """Return the states of rows `start` to `stop`  # (rows, P)."""
        return known_states(
            layout.read_rows(self.path / layout.STATE, _STATE, start, stop, self.num_parameters)
        )

    def values(self, name: str, start: int, stop: int) -> AnyArray:
        """Return a statistic in its own dtype: of rows, or of samples for a sampled one
        # (rows, P) or (rows, P, W).
        """
        statistic = self.statistics[name]
        shape = (self.num_parameters, statistic.width)[: 1 if statistic.width == 1 else 2]
        return layout.read_rows(
            self.path / layout.statistic_file(statistic),
            np.dtype(statistic.dtype),
            start,
            stop,
            *shape,
        )

    def sample_rows(self, stop: int) -> IntArray:
        """Return the row numbers in the run of the whole samples before row `stop`  # (S,)."""
        rows = layout.read_rows(
            self.path / layout.SAMPLE_ROWS, _INDEX, 0, self.num_samples()
        ).astype(np.int64, copy=False)
        # A tail that never reached the disk is read as zeros.
        lost = np.flatnonzero(np.diff(rows) <= 0)
        rows = rows[: int(lost[0]) + 1] if len(lost) else rows
        return rows[rows < stop]

    def num_rows(self) -> tuple[int | None, int]:
        """Return how many rows are whole in every file of rows, and how many are begun in any;
        `None` where without parameters there is nothing to count.
        """
        if not self.num_parameters:
            return None, 0
        counts = [layout.num_whole_rows(self.path / layout.STATE, _STATE, self.num_parameters)]
        for name in self.info.statistics:
            statistic = self.statistics[name]
            path = self.path / layout.statistic_file(statistic)
            counts.append(
                layout.num_whole_rows(
                    path, np.dtype(statistic.dtype), self.num_parameters * statistic.width
                )
            )
        return min(whole for whole, _ in counts), max(whole + rest for whole, rest in counts)

    def num_samples(self) -> int:
        """Return how many samples are whole in every file of sampled statistics."""
        counts = [layout.num_whole_rows(self.path / layout.SAMPLE_ROWS, _INDEX)[0]]
        for statistic in self.sampled():
            path, width = (
                self.path / layout.statistic_file(statistic),
                self.num_parameters * statistic.width,
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


def known_states(states: AnyArray) -> StateArray:
    """Return states as read from a file; a byte that is no state counts as not measured."""
    return np.where(states <= max(State), states, State.NOT_MEASURED).astype(np.uint8, copy=False)


def open_segment(path: Path, statistics: Mapping[str, Statistic]) -> Segment | None:
    """Return the segment in this directory, or `None` when there is none or its `parameters.json`
    is torn.
    """
    if not require_directory(path.parent) or not require_directory(path):
        return None
    try:
        info = segment_from_json(loads(read_document(path / layout.PARAMETERS)))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if any(name not in statistics for name in info.statistics):
        return None
    return Segment(path, info, statistics)
