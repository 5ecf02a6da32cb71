"""View any stretch of a run in about as many columns as a picture has, from the coarsest level that
is fine enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from seismograd.record import layout
from seismograd.record.entry_files import EntryFiles
from seismograd.record.pyramid.cells import cell_rows
from seismograd.record.pyramid.pyramid_reader import Columns, PyramidReader
from seismograd.record.pyramid.pyramid_view import PyramidView, joined, views_of
from seismograd.record.pyramid.segment_pyramid import PlacedPyramid, open_pyramid
from seismograd.record.pyramid.step_scalars import STATISTICS as STEP_STATISTICS
from seismograd.record.pyramid.step_scalars import STEP_SCALARS, STEPS, step_states, step_values
from seismograd.record.recovery import IntactPart
from seismograd.record.segment import Segment
from seismograd.schema import AnyArray, IntArray, State, StateArray, Statistic

_MAX_NUMBERS = 2**22  # cells times parameters that one view reads


class PyramidLevels:
    """Views of the run in a directory, `None` when it has no pyramid; `columns` returns a segment's
    positions among the run's parameters.

    A run without a pyramid, or a truncated one, gives the same views: what no file holds is
    computed from the rows.
    """

    def __init__(
        self,
        run: Path | None,
        entries: EntryFiles,
        whole: IntactPart,
        statistics: Mapping[str, Statistic],
        columns: Callable[[Segment], Sequence[int]],
        num_parameters: int,
    ) -> None:
        self._entries = entries
        self._num_rows = whole.num_rows
        self._num_parameters = num_parameters
        spans = list(whole.spans())
        self._parts = [
            PlacedPyramid(
                open_pyramid(segment, stop - first, statistics, run is not None),
                first,
                stop,
                np.array(columns(segment), np.int64),
                segment,
            )
            for segment, first, stop in spans
        ]
        self._spans = spans
        pyramid = PyramidReader(
            run,
            whole.num_rows,
            len(STEP_SCALARS),
            STEP_STATISTICS,
            self._read_steps,
            entries.checked,
        )
        self.of_steps = pyramid
        self._steps = PlacedPyramid(pyramid, 0, whole.num_rows, np.arange(len(STEP_SCALARS)))

    def parameters(
        self, name: str, start: int, stop: int, num_columns: int, only: Sequence[int] | None = None
    ) -> PyramidView:
        """Return a statistic of rows `start` to `stop` of all parameters, or `only` of some, in
        about `num_columns` columns.

        The first and the last column may hold a few rows more than requested, because they are
        cells of the pyramid.
        """
        return joined(
            list(self.stretches(name, start, stop, num_columns, only)),
            self._num_parameters if only is None else len(only),
        )

    def stretches(
        self,
        name: str,
        start: int,
        stop: int,
        num_columns: int,
        only: Sequence[int] | None = None,
        at_once: int | None = None,
    ) -> Iterator[PyramidView]:
        """Yield the same view, at most about `at_once` numbers of it at a time, to bound memory and
        time.
        """
        positions = np.arange(self._num_parameters) if only is None else np.array(only, np.int64)
        # A few parameters of many cost about one page of the file per cell each, so they count as
        # half of all.
        level, size = _scale(
            stop - start, num_columns, max(len(positions), self._num_parameters // 2)
        )
        most = None if at_once is None else max(1, at_once // max(1, len(positions) * size))
        for part in self._parts:
            if part.first < stop and start < part.stop:
                yield from views_of(part, name, start, stop, level, size, positions, most)

    def steps(self, start: int, stop: int, num_columns: int) -> PyramidView:
        """Return the scalars of the steps, STEP_SCALARS, in the same form."""
        level, size = _scale(stop - start, num_columns, len(STEP_SCALARS))
        views = (
            list(views_of(self._steps, STEPS, start, stop, level, size, self._steps.positions))
            if stop > start
            else []
        )
        return joined(views, len(STEP_SCALARS))

    def _read_steps(
        self, start: int, stop: int, columns: Columns, _: Sequence[str]
    ) -> tuple[StateArray, Mapping[str, AnyArray]]:
        steps = self._entries.read(layout.STEPS, start, stop)
        bad = np.zeros((len(steps), 1), np.uint8)
        unclear = np.flatnonzero(np.isnan(steps["grad_norm"]))
        if len(unclear):
            bad[self._with_nonfinite(start, unclear)] = State.NONFINITE
        return step_states(steps, bad)[:, columns], {STEPS: step_values(steps)[:, columns]}

    def _with_nonfinite(self, start: int, rows: IntArray) -> IntArray:
        """Return which of these rows, counted from `start`, have a gradient that is not finite."""
        found: list[int] = []
        for segment, first, stop in self._spans:
            inside = rows[(rows + start >= first) & (rows + start < stop)]
            if len(inside):
                low, high = int(inside[0]) + start - first, int(inside[-1]) + start - first + 1
                bad = (segment.state(low, high) == State.NONFINITE).any(axis=1)
                found += [int(row) for row in inside if bad[row + start - first - low]]
        return np.array(found, np.int64)


def _scale(num_rows: int, num_columns: int, num_parameters: int) -> tuple[int, int]:
    """Return the level, and how many of its cells make a column."""
    wanted = max(1, num_rows // max(1, num_columns))  # rows per column
    level = 0
    while (
        cell_rows(level + 1) <= wanted
        or (num_rows // cell_rows(level) + 2) * num_parameters > _MAX_NUMBERS
    ):
        level += 1
    return level, max(1, round(wanted / cell_rows(level)))
