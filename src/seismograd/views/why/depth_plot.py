"""Draw the gradient over depth as bars, by powers of ten."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType
from rich.text import Text

from seismograd.i18n import translate
from seismograd.views.text_layout import cell_width, pad
from seismograd.views.values import NOTHING, number
from seismograd.views.why.depth_points import DepthPoint

MOST_ROWS = 24
WIDEST_NAME = 28
WIDEST_BARS = 50
BAR = "█"


@dataclass(frozen=True, slots=True)
class DepthPlot:
    """One line for each layer, the input first: its name, its size, and a bar that is as long as
    the logarithm of that lies above the smallest.
    """

    points: Sequence[DepthPoint]

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        shown = _evenly(self.points, MOST_ROWS)
        sizes = [number(each.size, 3) for each in shown]
        sizes = [NOTHING if size == "nan" else size for size in sizes]
        marks = any(each.is_asked for each in shown)
        names = [
            ("> " if each.is_asked else "  ") * marks + _short(each.name, WIDEST_NAME)
            for each in shown
        ]
        wide, right = max(map(cell_width, names)), max(map(len, sizes))
        room = min(max(options.max_width - wide - right - 4, 4), WIDEST_BARS)
        known = [
            math.log10(each.size) for each in shown if math.isfinite(each.size) and each.size > 0
        ]
        low, high = (min(known), max(known)) if known else (0.0, 0.0)
        low = min(low, high - 1)  # less than a power of ten is no slope
        for each, name, size in zip(shown, names, sizes, strict=True):
            long = _length(each.size, low, high, room)
            yield Text.assemble(
                pad(name, wide), "  ", size.rjust(right), "  ", (BAR * long, "cyan")
            )
        hidden = len(self.points) - len(shown)
        if hidden:
            yield Text(
                translate("(layers in between that are not shown: {number})").format(number=hidden),
                style="dim",
            )


def _length(size: float, low: float, high: float, room: int) -> int:
    """Return how long a bar is: 0 for zero and what is not known, 1 at the least for others."""
    if math.isnan(size) or size <= 0:
        return 0
    if math.isinf(size):
        return room
    return 1 + round((math.log10(size) - low) / (high - low) * (room - 1))


def _evenly(points: Sequence[DepthPoint], most: int) -> list[DepthPoint]:
    if len(points) <= most:
        return list(points)
    return [points[round(at * (len(points) - 1) / (most - 1))] for at in range(most)]


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else "…" + name[-most + 1 :]
