"""The page of an experiment: paragraphs, tables and charts, in reading order. Texts are rendered at
the end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from seismograd.i18n import Message

Cell = str | Message


def cell_text(cell: Cell) -> str:
    """Return a cell in the current language."""
    return cell if isinstance(cell, str) else cell.render()


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A few sentences."""

    text: Message


@dataclass(frozen=True, slots=True)
class Heading:
    """The title of a section."""

    text: Message


@dataclass(frozen=True, slots=True)
class CodeBlock:
    """Lines of code, as they would be typed."""

    text: str


@dataclass(frozen=True, slots=True)
class PageTable:
    """Rows under headings; the first column holds names, the others numbers."""

    headings: Sequence[Cell]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True, slots=True)
class ChartSeries:
    """A line of a chart, or its bars: values `ys` at `xs`  # (N,) each; values that are not
    finite leave a gap.
    """

    name: Cell
    xs: Sequence[float]
    ys: Sequence[float]


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines, or bars of one series with a label each. `log`: the values are on a logarithmic
    axis.
    """

    title: Message
    x_label: Cell
    series: Sequence[ChartSeries]
    kind: Literal["lines", "bars"] = "lines"
    log: bool = False
    labels: Sequence[Cell] = ()


@dataclass(frozen=True, slots=True)
class Panel:
    """A matrix as a picture, a cell for each scalar: one color for what is above zero, another for
    what is below, deeper where the magnitude is larger. `values`  # (rows, columns).
    """

    name: Cell
    values: Sequence[Sequence[float]]

    @property
    def largest(self) -> float:
        """Return the largest finite magnitude, 0 where there is none: it has the deepest color."""
        return max(
            (abs(value) for row in self.values for value in row if math.isfinite(value)),
            default=0.0,
        )

    def depth(self, value: float) -> float | None:
        """Return how deep the color of a value is, from -1 to 1; `None` where it is not finite."""
        if not math.isfinite(value):
            return None
        return value / self.largest if self.largest else 0.0


@dataclass(frozen=True, slots=True)
class Picture:
    """Matrices side by side, each with its own scale."""

    title: Message
    panels: Sequence[Panel]


Block = Heading | Paragraph | CodeBlock | PageTable | Chart | Picture


@dataclass(frozen=True, slots=True)
class Page:
    """The whole answer. `remember` is what it comes down to, in a sentence; `following` are
    commands and code to try next.
    """

    title: Message
    blocks: Sequence[Block]
    remember: Message
    following: Sequence[tuple[Message, str]]


def number(value: float, digits: int = 4) -> str:
    """Return a number with a few significant digits, an integer with all of them."""
    if abs(value) < 1e6 and value == int(value):
        return f"{int(value):,}"
    if 1e3 <= abs(value) < 1e6:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}" if 1e-3 <= abs(value) < 1e3 else f"{value:.{digits - 1}e}"
