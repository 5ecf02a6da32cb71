"""How the scalars of one gradient are spread over the powers of two, as bars of text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from seismograd.i18n import translate
from seismograd.record.reader import Run
from seismograd.schema import HISTOGRAM_BINS, HISTOGRAM_EXPONENTS_PER_BIN, HISTOGRAM_FIRST_EXPONENT
from seismograd.views.values import count, number, share

_BAR_CELLS = 28
_EIGHTHS = " ▏▎▍▌▋▊▉"


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts by binary exponent of one parameter's gradient, at the sampled step they were taken."""

    parameter: str
    iteration: int
    bins: tuple[int, ...]  # (HISTOGRAM_BINS,)
    numel: int

    @property
    def num_counted(self) -> int:
        """Scalars in the bins: all but zeros and non-finite ones."""
        return sum(self.bins)


def nearest_histogram(run: Run, row: int, column: int) -> Histogram | None:
    """The histogram of the nearest sampled row at or before `row`; `None` when there is none."""
    rows, sampled = run.samples("exponents")  # (S,), (S, P, W)
    before = np.flatnonzero(rows <= row)
    if len(before) == 0:
        return None
    taken = int(before[-1])
    bins = np.nan_to_num(sampled[taken, column].astype(np.float64))
    parameter = run.parameters[column]
    return Histogram(parameter.name, int(run.steps["iteration"][rows[taken]]), tuple(int(each) for each in bins), parameter.numel)


def bars(histogram: Histogram) -> Iterator[RenderableType]:
    """A title and one bar for each bin between the smallest and the largest that hold anything."""
    yield Text(
        translate("The {number} scalars of {parameter} by size, at step {step} (the nearest sampled)").format(
            number=count(histogram.numel), parameter=histogram.parameter, step=histogram.iteration
        ),
        style="bold",
    )
    filled = [index for index, each in enumerate(histogram.bins) if each]
    if not filled:
        yield Text("  " + translate("all of them zero or non-finite, or not measured"))
        return
    largest = max(histogram.bins)
    for index in range(filled[-1], filled[0] - 1, -1):
        held = histogram.bins[index]
        yield Text.assemble(
            (f"  {_edges(index):<25}", "dim"),
            (f"{_bar(held / largest):<{_BAR_CELLS}}", "cyan"),
            f" {share(held, histogram.numel):>6}",
        )
    rest = histogram.numel - histogram.num_counted
    if rest > 0:
        yield Text(f"  {translate('zero or non-finite')}: {count(rest)} ({share(rest, histogram.numel)})", style="dim")


def _edges(index: int) -> str:
    low = HISTOGRAM_FIRST_EXPONENT + HISTOGRAM_EXPONENTS_PER_BIN * index
    high = low + HISTOGRAM_EXPONENTS_PER_BIN
    if index == 0:
        return f"       |g| < 2^{high}"
    if index == HISTOGRAM_BINS - 1:
        return f"2^{low} ≤ |g|"
    return f"{number(2.0**low, 2):>8} … {number(2.0**high, 2):<8} 2^{low}"


def _bar(fraction: float) -> str:
    eighths = max(1, round(fraction * _BAR_CELLS * 8)) if fraction else 0
    whole, part = divmod(eighths, 8)
    return "█" * whole + (_EIGHTHS[part] if part else "")
