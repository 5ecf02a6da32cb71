"""The distribution of one gradient's scalars over the powers of two, as bars of text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from seismograd.i18n import translate
from seismograd.record.reader import Run
from seismograd.schema import (
    HISTOGRAM_BINS,
    HISTOGRAM_EXPONENTS_PER_BIN,
    HISTOGRAM_FIRST_EXPONENT,
    State,
)
from seismograd.views.values import count, number, share

_BAR_CELLS = 28
_EIGHTHS = " ▏▎▍▌▋▊▉"


@dataclass(frozen=True, slots=True)
class GradientHistogram:
    """Counts by binary exponent of one parameter's gradient, at the sampled step they were
    taken.
    """

    parameter: str
    iteration: int
    bins: tuple[int, ...]  # (HISTOGRAM_BINS,)
    numel: int

    @property
    def num_counted(self) -> int:
        """Return the number of scalars in the bins: all but zeros and non-finite ones."""
        return sum(self.bins)


def nearest_histogram(run: Run, row: int, parameter: str) -> GradientHistogram | None:
    """Return the histogram of the nearest sampled row at or before `row`; `None` when there is
    none, or none of this parameter.
    """
    sampled = np.flatnonzero(run.steps["sampled"][: row + 1])
    if len(sampled) == 0:
        return None
    taken = int(sampled[-1])
    block = next(run.row_reader.blocks(taken, taken + 1))
    names = [each.name for each in block.parameters]
    if parameter not in names or "exponents" not in block.samples or len(block.sample_rows) == 0:
        return None
    column = names.index(parameter)
    if block.state[0, column] in (State.NOT_MEASURED, State.ABSENT):
        return None
    bins = block.samples["exponents"][0, column]  # (W,)
    return GradientHistogram(
        parameter,
        int(block.steps[0]["iteration"]),
        tuple(map(int, bins)),
        block.parameters[column].numel,
    )


def bars(histogram: GradientHistogram) -> Iterator[RenderableType]:
    """Yield a title and one bar for each bin between the smallest and the largest that are not
    empty.
    """
    yield Text(
        translate(
            "Scalars of {parameter} by magnitude at step {step}, the nearest sampled step (total: "
            "{number})"
        ).format(
            number=count(histogram.numel), parameter=histogram.parameter, step=histogram.iteration
        ),
        style="bold",
    )
    filled = [index for index, each in enumerate(histogram.bins) if each]
    if not filled:
        yield Text("  " + translate("all scalars are zero, non-finite or not measured"))
        return
    largest = max(histogram.bins)
    for index in range(filled[-1], filled[0] - 1, -1):
        held = histogram.bins[index]
        yield Text.assemble(
            (f"  {_edges(index)}  ", "dim"),
            (f"{_bar(held / largest):<{_BAR_CELLS}}", "cyan"),
            f" {share(held, histogram.numel):>6}",
        )
    rest = histogram.numel - histogram.num_counted
    if rest > 0:
        yield Text(
            f"  {translate('zero or non-finite')}: {count(rest)} ({share(rest, histogram.numel)})",
            style="dim",
        )


def _edges(index: int) -> str:
    """Return the bin as a range of decimal numbers, and the power of two at its lower end."""
    low = HISTOGRAM_FIRST_EXPONENT + HISTOGRAM_EXPONENTS_PER_BIN * index
    high = low + HISTOGRAM_EXPONENTS_PER_BIN
    smallest = "0" if index == 0 else number(2.0**low, 2)
    largest = "∞" if index == HISTOGRAM_BINS - 1 else number(2.0**high, 2)
    return f"{smallest:>7} – {largest:<7} {'' if index == 0 else f'≥ 2^{low}':<7}"


def _bar(fraction: float) -> str:
    eighths = max(1, round(fraction * _BAR_CELLS * 8)) if fraction else 0
    whole, part = divmod(eighths, 8)
    return "█" * whole + (_EIGHTHS[part] if part else "")
