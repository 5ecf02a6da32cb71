"""One run as a source of answers: each method is a question of the page, each answer is
`packing.pack`ed.

A view of any stretch reads a bounded number of bytes. Rows are those of the record, columns of
arrays (P) the parameters of the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from seismograd.diagnosis.verdict import Verdict
from seismograd.record.pyramid.step_scalars import STEP_SCALARS
from seismograd.record.reader import Run
from seismograd.schema import AnyArray, State
from seismograd.views.page_api.heat_codes import encode
from seismograd.views.page_api.packing import pack
from seismograd.views.page_api.page_verdict import page_verdict
from seismograd.views.page_api.pictured_units import answer_picture
from seismograd.views.page_api.run_overview import about
from seismograd.views.page_api.sampled_histograms import answer_histogram
from seismograd.views.page_api.sampled_signals import answer_signals
from seismograd.views.page_api.seismogram_shapes import answer_seismogram
from seismograd.views.page_api.step_numbers import answer_step
from seismograd.views.page_api.timeline import answer_timeline

_MOST_COLUMNS = 4000
_USUAL_COLUMNS = 1000
_MOST_CODES = 1_000_000
_FEWEST_COLUMNS = 200
_NUMBERS_AT_ONCE = 2**17  # of a heat map, read and encoded while they are in the cache
_EXTREMES = ("high", "low", "last")


@dataclass(frozen=True)
class RunSource:
    """The answers of one run, as it was when it was opened. `going_on`: it is still being
    recorded. `with_source`: lines of the script are in the answers.
    """

    verdict: Verdict
    going_on: bool = False
    with_source: bool = True

    @property
    def run(self) -> Run:
        """Return the run as it was when it was opened."""
        return self.verdict.run

    def meta(self) -> bytes:
        """Return information about the run as a whole: names, parameters, findings."""
        return pack(*about(self.verdict, self.going_on, self.with_source))

    def heat(
        self, start: int, stop: int, width: int, statistic: str = "grad_norm", which: str = "high"
    ) -> bytes:
        """Return a statistic of all parameters over rows `start` to `stop`: `codes` (P, C), and the
        rows of each column.

        For very many parameters there are fewer columns than `width`, so that the answer does not
        grow with them.
        """
        start, stop, width = self._clip(start, stop, min(width, self._most_columns))
        starts, stops, codes = (
            [np.empty(0, np.int32)],
            [np.empty(0, np.int32)],
            [np.empty((len(self.run.parameters), 0), np.int16)],
        )
        for view in self.run.levels.stretches(
            statistic, start, stop, width, at_once=_NUMBERS_AT_ONCE
        ):
            starts.append(view.starts.astype(np.int32))
            stops.append(view.stops.astype(np.int32))
            codes.append(encode(view, which))
        arrays = {
            "starts": np.concatenate(starts),
            "stops": np.concatenate(stops),
            "codes": np.concatenate(codes, axis=1),
        }
        return pack({"statistic": statistic, "which": which}, arrays)

    def scalars(self, start: int, stop: int, width: int) -> bytes:
        """Return the scalars of the steps: `low`, `high`, `last` (F, C), and in how many steps each
        was not finite.
        """
        start, stop, width = self._clip(start, stop, width)
        view = self.run.levels.steps(start, stop, width)
        arrays: dict[str, AnyArray] = {
            "starts": view.starts.astype(np.int32),
            "stops": view.stops.astype(np.int32),
        }
        for name, values in zip(
            ("low", "high", "last"), (view.low, view.high, view.last), strict=True
        ):
            arrays[name] = np.ascontiguousarray(values.T)
        arrays["nonfinite"] = np.ascontiguousarray(view.counts[:, State.NONFINITE].T).astype(
            np.int32
        )
        return pack({"scalars": list(STEP_SCALARS)}, arrays)

    def line(self, column: int, start: int, stop: int, width: int) -> bytes:
        """Return one parameter: for each statistic `NAME.low` and `NAME.high` (C,), and `counts` of
        its states (N, C).
        """
        start, stop, width = self._clip(start, stop, width)
        column = self._column(column)
        arrays: dict[str, AnyArray] = {}
        names = [each.name for each in self.run.statistics]
        for name in ("grad_norm", "applied_norm", "update_ratio"):
            if name not in names or column < 0:
                continue
            view = self.run.levels.parameters(name, start, stop, width, [column])
            arrays[f"{name}.low"], arrays[f"{name}.high"] = view.low[:, 0], view.high[:, 0]
            arrays |= {"starts": view.starts.astype(np.int32), "stops": view.stops.astype(np.int32)}
            arrays["counts"] = np.ascontiguousarray(view.counts[:, :, 0].T)
        return pack({"column": column}, arrays)

    def step(self, row: int) -> bytes:
        """Return everything about one row, and the line through its depth profile."""
        return answer_step(self.run, max(0, min(row, self.run.num_rows - 1)))

    def histogram(self, column: int, start: int, stop: int, width: int) -> bytes:
        """Return the distribution of one parameter's scalars (`-1`: of all) over sampled rows."""
        start, stop, width = self._clip(start, stop, width)
        return answer_histogram(self.run, self._column(column), start, stop, width)

    def lanes(self, row: int) -> bytes:
        """Return the intercepted calls around a row."""
        return answer_timeline(self.run, max(0, min(row, self.run.num_rows - 1)))

    def signals(self, row: int) -> bytes:
        """Return the signals of the modules in the sampled step nearest to a row."""
        return answer_signals(self.run, max(0, min(row, self.run.num_rows - 1)))

    def picture(self, column: int, row: int) -> bytes:
        """Return the gradients of single units as pictures, from the snapshot nearest to a row."""
        last = self.run.num_rows - 1
        return answer_picture(self.run, self._column(column), max(0, min(row, last)))

    def element(self, index: int, start: int, stop: int, width: int) -> bytes:
        """Return a single scalar: smallest and largest finite value of each column, and whether any
        was not finite.
        """
        start, stop, width = self._clip(start, stop, width)
        num = max(1, min(width, stop - start))
        edges = start + np.arange(num + 1) * (stop - start) // num
        low, high, bad = np.full(num, np.nan), np.full(num, np.nan), np.zeros(num, np.uint8)
        if 0 <= index < len(self.run.info.elements):
            for first, values in self.run.row_reader.elements(start, stop):
                positions = np.searchsorted(edges, first + np.arange(len(values)), "right") - 1
                _sum_up(values[:, index], np.clip(positions, 0, num - 1), low, high, bad)
        arrays = {
            "starts": edges[:-1].astype(np.int32),
            "stops": edges[1:].astype(np.int32),
            "low": low,
            "high": high,
            "nonfinite": bad,
        }
        return pack({"index": index}, arrays)

    def seismogram(self) -> bytes:
        """Return the seismogram of the whole run as shapes, and the last row of each column."""
        return answer_seismogram(self.verdict)

    def asked(self, question: str, given: Mapping[str, str]) -> tuple[object, ...]:
        """Return a key that distinguishes a question from those that have another answer; raises
        `ValueError` as `answer`.
        """
        if question != "heat":
            return question, *sorted(given.items())
        width = min(int(given.get("width", _USUAL_COLUMNS)), self._most_columns)
        return (
            question,
            given.get("start"),
            given.get("stop"),
            width,
            given.get("statistic", "grad_norm"),
            given.get("which", "high"),
        )

    def answer(self, question: str, given: Mapping[str, str]) -> bytes:
        """Return the answer to a question by name, its numbers as text.

        Raises:
            ValueError: there is no such question, or a number is missing or invalid.
        """
        number = {
            name: int(given[name])
            for name in ("column", "row", "start", "stop", "width", "index")
            if name in given
        }
        stretch = (
            number.get("start", 0),
            number.get("stop", self.run.num_rows),
            number.get("width", _USUAL_COLUMNS),
        )
        match question:
            case "meta":
                return self.meta()
            case "heat":
                statistic, which = given.get("statistic", "grad_norm"), given.get("which", "high")
                if which not in _EXTREMES or statistic not in (
                    "grad_norm",
                    "applied_norm",
                    "update_ratio",
                ):
                    raise ValueError(f"no such question: {statistic} {which}")
                return self.heat(*stretch, statistic, which)
            case "scalars":
                return self.scalars(*stretch)
            case "line":
                return self.line(number.get("column", -1), *stretch)
            case "step":
                return self.step(number.get("row", self.run.num_rows - 1))
            case "histogram":
                return self.histogram(number.get("column", -1), *stretch)
            case "lanes":
                return self.lanes(number.get("row", self.run.num_rows - 1))
            case "signals":
                return self.signals(number.get("row", self.run.num_rows - 1))
            case "picture":
                row = number.get("row", self.run.num_rows - 1)
                return self.picture(number.get("column", -1), row)
            case "seismogram":
                return self.seismogram()
            case "element":
                return self.element(number.get("index", 0), *stretch)
            case _:
                raise ValueError(f"no such question: {question}")

    @property
    def _most_columns(self) -> int:
        """Return the limit on the columns of a heat map, so that it does not grow with the
        parameters.
        """
        return max(_FEWEST_COLUMNS, _MOST_CODES // max(1, len(self.run.parameters)))

    def _clip(self, start: int, stop: int, width: int) -> tuple[int, int, int]:
        start = max(0, min(start, self.run.num_rows))
        return start, max(start, min(stop, self.run.num_rows)), max(1, min(width, _MOST_COLUMNS))

    def _column(self, column: int) -> int:
        return column if 0 <= column < len(self.run.parameters) else -1


def open_source(run: Run, going_on: bool = False) -> RunSource:
    """Return the source of a run."""
    return RunSource(page_verdict(run, going_on), going_on)


def _sum_up(
    values: AnyArray, positions: AnyArray, low: AnyArray, high: AnyArray, bad: AnyArray
) -> None:
    infinite = np.isinf(values)
    finite = np.where(infinite, np.nan, values)
    np.fmin.at(low, positions, finite)
    np.fmax.at(high, positions, finite)
    bad[positions[infinite]] = 1
