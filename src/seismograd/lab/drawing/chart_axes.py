"""Place values on the axes of a chart, from 0 to 1, and choose the marks along them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from seismograd.lab.lab_page import Chart, number


@dataclass(frozen=True, slots=True)
class Axis:
    """A range of values, linear or logarithmic."""

    low: float
    high: float
    log: bool = False

    def position(self, value: float) -> float | None:
        """Return the position of a value, from 0 to 1; `None` for one without a position: not
        finite, or not above zero on a logarithmic axis.
        """
        if not math.isfinite(value) or (self.log and value <= 0):
            return None
        low, high, value = (
            (math.log10(x) for x in (self.low, self.high, value))
            if self.log
            else (self.low, self.high, value)
        )
        return (value - low) / (high - low) if high > low else 0.5

    def marks(self, count: int = 5) -> list[tuple[float, str]]:
        """Return a few round values along it, each with its label."""
        if self.log:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            every = max(1, -(-(last - first) // count))
            factors = (1,) if last - first > 2 else (1, 2, 5)
            values = [
                factor * 10.0**power
                for power in range(first, last + 1, every)
                for factor in factors
            ]
            return [(value, f"{value:g}") for value in values if self.low <= value <= self.high]
        step = _round_step((self.high - self.low) / max(1, count - 1))
        start = math.ceil(self.low / step)
        return [
            (k * step, number(k * step, 3))
            for k in range(start, start + 2 * count)
            if k * step <= self.high + step * 1e-9
        ]


def axes(chart: Chart) -> tuple[Axis, Axis]:
    """Return the horizontal and the vertical axis of a chart of lines."""
    xs = [x for series in chart.series for x in series.xs]
    ys = [y for series in chart.series for y in series.ys]
    return _axis(xs, log=False), _axis(ys, chart.log)


def bar_axis(chart: Chart) -> Axis:
    """Return the axis of bars: they begin at zero, or on a logarithmic axis a little below the
    smallest.
    """
    values = [y for series in chart.series for y in series.ys]
    axis = _axis(values, chart.log)
    return (
        Axis(axis.low / 2, axis.high, log=True)
        if chart.log
        else Axis(min(0.0, axis.low), axis.high)
    )


def _axis(values: Sequence[float], log: bool) -> Axis:
    usable = [value for value in values if math.isfinite(value) and (value > 0 or not log)]
    low, high = (min(usable), max(usable)) if usable else (1.0, 2.0)
    if low == high:
        return Axis(low / 2, high * 2, log) if log else Axis(low - 0.5, high + 0.5)
    return Axis(low, high, log)


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(
        factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9)
    )
