"""Matrices on the terminal: a cell of two columns for each scalar, shaded by its magnitude."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from rich.text import Text

from seismograd.lab.lab_page import Panel, Picture, cell_text, number
from seismograd.views.text_layout import cell_width, wrap

SHADES = " ░▒▓█"
ABOVE, BELOW, NOT_FINITE = "blue", "red", "magenta"
_GAP = 3


def draw(picture: Picture, width: int) -> Iterator[Text]:
    """Yield the lines of a picture: as many panels beside each other as fit."""
    yield Text("\n".join(wrap(picture.title.render(), width)), style="bold")
    row: list[Panel] = []
    for panel in picture.panels:
        if row and sum(_width(each) + _GAP for each in row) + _width(panel) > width:
            yield from _beside(row)
            row = []
        row.append(panel)
    yield from _beside(row)


def _beside(panels: Sequence[Panel]) -> Iterator[Text]:
    for lines in zip_longest(*(_lines(panel) for panel in panels)):
        whole = Text()
        for panel, line in zip(panels, lines, strict=True):
            text = line or Text()
            whole.append_text(text)
            whole.append(" " * (_width(panel) + _GAP - cell_width(text.plain)))
        whole.rstrip()
        yield whole


def _width(panel: Panel) -> int:
    return max(2 * len(panel.values[0]), cell_width(_caption(panel)))


def _caption(panel: Panel) -> str:
    return f"{cell_text(panel.name)} (±{number(panel.largest, 2)})"


def _lines(panel: Panel) -> Iterator[Text]:
    yield Text(_caption(panel), style="dim")
    for row in panel.values:
        line = Text()
        for value in row:
            depth = panel.depth(value)
            if depth is None:
                line.append("NN", NOT_FINITE)
            else:
                shade = SHADES[math.ceil(abs(depth) * (len(SHADES) - 1))]
                line.append(shade * 2, ABOVE if depth > 0 else BELOW)
        yield line
