"""Read a statistic of all rows of a run and all parameters that it ever had, as one array.

Shapes: T rows, S samples, P parameters of the run, W numbers per parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from seismograd.errors import SeismogradError
from seismograd.i18n import say
from seismograd.record.recovery import IntactPart
from seismograd.record.segment import Segment
from seismograd.schema import FloatArray, IntArray, State, StateArray, Statistic


@dataclass(frozen=True)
class RunArrays:
    """Reads whole arrays. `columns` returns a segment's positions among the run's parameters."""

    whole: IntactPart
    statistics: Mapping[str, Statistic]
    columns: Callable[[Segment], Sequence[int]]
    num_parameters: int

    @cached_property
    def states(self) -> StateArray:
        """Return each gradient's `State`  # (T, P)."""
        states = np.full((self.whole.num_rows, self.num_parameters), State.NOT_MEASURED, np.uint8)
        for segment, start, stop in self.whole.spans():
            states[start:stop, self.columns(segment)] = segment.state(0, stop - start)
        return states

    def series(self, name: str) -> FloatArray:
        """Return what `Run.series` does  # (T, P)."""
        statistic = self._statistic(name)
        if statistic.width > 1:
            raise SeismogradError(
                say("{name} has several values per parameter", name=name),
                say("use samples() to read it"),
            )
        series = np.full((self.whole.num_rows, self.num_parameters), np.nan)
        if statistic.sampled:
            rows, values = self.samples(name)
            series[rows] = values
            return series
        for segment, start, stop in self.whole.spans():
            if name in segment.info.statistics:
                columns = self.columns(segment)
                series[start:stop, columns] = segment.values(name, 0, stop - start)
                for begin, end in segment.damaged_values(name, 0, stop - start):
                    series[start + begin : start + end, columns] = np.nan
        series[self.states <= State.ABSENT] = np.nan
        return series

    def samples(self, name: str) -> tuple[IntArray, FloatArray]:
        """Return what `Run.samples` does  # (S,), and (S, P) or (S, P, W)."""
        statistic = self._statistic(name)
        if not statistic.sampled:
            raise SeismogradError(
                say("{name} is measured at every step", name=name), say("use series() to read it")
            )
        all_rows = [np.empty(0, np.int64)]
        all_values = [np.empty((0, self.num_parameters, statistic.width))]
        for segment, _, stop in self.whole.spans():
            if statistic not in segment.sampled():
                continue
            rows = segment.sample_rows(stop)
            # of damaged ones nobody knows the rows, or nothing is known
            whole = segment.whole_samples(0, len(rows))
            values = np.full((len(rows), self.num_parameters, statistic.width), np.nan)
            values[:, self.columns(segment)] = segment.values(name, 0, len(rows)).reshape(
                len(rows), segment.num_parameters, statistic.width
            )
            values[self.states[rows] <= State.ABSENT] = np.nan
            all_rows.append(rows[whole])
            all_values.append(values[whole])
        joined = np.concatenate(all_values)
        return np.concatenate(all_rows), joined if statistic.width > 1 else joined[:, :, 0]

    def _statistic(self, name: str) -> Statistic:
        if name not in self.statistics:
            raise SeismogradError(
                say("this run has no statistic named {name}", name=name),
                say("available names: {names}", names=", ".join(self.statistics)),
            )
        return self.statistics[name]
