"""A page on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from seismograd.i18n import translate
from seismograd.lab.drawing import picture_terminal
from seismograd.lab.drawing.chart_axes import axes, bar_axis
from seismograd.lab.experiments import Experiment
from seismograd.lab.lab_page import (
    Block,
    Chart,
    CodeBlock,
    Heading,
    Page,
    PageTable,
    Paragraph,
    Picture,
    cell_text,
    number,
)
from seismograd.views.text_layout import cell_width, pad, wrap

WIDTH, HEIGHT = 60, 14
BAR_WIDTH = 40
_HEADING = 7  # cells that a word of a heading may take
_NUMBER = 12  # cells for the number behind a bar
TEXT_WIDTH = 96
MARKS = "●▲■◆○△"
STYLES = ("cyan", "yellow", "magenta", "green", "red", "blue")


def render(page: Page) -> RenderableType:
    """Return the page as rich draws it."""
    return _PageOnTerminal(page)


@dataclass(frozen=True, slots=True)
class _PageOnTerminal:
    """The page, as wide as the terminal where that is narrow."""

    page: Page

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        yield from _parts(self.page, min(options.max_width, TEXT_WIDTH))


def listing(experiments: Sequence[Experiment]) -> RenderableType:
    """Return the experiments, each with a sentence about it."""
    grid = Grid(box=None, pad_edge=False, show_header=False, show_edge=False)
    grid.add_column(no_wrap=True)
    grid.add_column()
    for experiment in experiments:
        grid.add_row(experiment.name, translate(experiment.summary))
    return grid


def _parts(page: Page, width: int) -> Iterator[RenderableType]:
    yield Text("\n".join(wrap(page.title.render(), width)), style="bold")
    for block in page.blocks:
        yield Text()
        yield from _block(block, width)
    yield Text()
    yield Text(translate("To remember:"), style="bold")
    yield Text("\n".join(wrap(page.remember.render(), width)))
    yield Text()
    yield Text(translate("Try next:"), style="bold")
    for text, code in page.following:
        yield Text("\n".join(wrap(text.render(), width)))
        yield Text("\n".join(f"    {line}" for line in code.splitlines()), style="cyan")


def _block(block: Block, width: int) -> Iterator[RenderableType]:
    match block:
        case Heading():
            yield Text("\n".join(wrap(block.text.render(), width)), style="bold")
        case Paragraph():
            yield Text("\n".join(wrap(block.text.render(), width)))
        case CodeBlock():
            yield Text("\n".join(f"    {line}" for line in block.text.splitlines()), style="cyan")
        case PageTable():
            yield _table(block, width)
        case Chart():
            yield _chart(block, width)
        case Picture():
            yield from picture_terminal.draw(block, width)


def _table(table: PageTable, width: int) -> RenderableType:
    """Return the table; where it is wider than the terminal, its headings are broken, and never a
    number.
    """
    rows = [[cell_text(cell) for cell in row] for row in table.rows]
    headings = [cell_text(heading) for heading in table.headings]
    widest = [max(map(cell_width, column)) for column in zip(*rows, strict=True)]
    natural = sum(
        max(cell_width(heading), widest[position]) + 2 for position, heading in enumerate(headings)
    )
    is_narrow = natural > width
    gap = (0, 1, 0, 0) if is_narrow else (0, 1)
    grid = Grid(box=None, pad_edge=False, header_style="bold", show_edge=False, padding=gap)
    for position, heading in enumerate(headings):
        broken = wrap(heading, max(widest[position], _HEADING)) if is_narrow else [heading]
        grid.add_column("\n".join(broken), justify="right" if position else "left", overflow="fold")
    for row in rows:
        grid.add_row(*row)
    return grid


def _chart(chart: Chart, width: int) -> RenderableType:
    return Group(
        Text("\n".join(wrap(chart.title.render(), width)), style="bold"),
        *(_bars(chart, width) if chart.kind == "bars" else _lines(chart, width)),
    )


def _bars(chart: Chart, width: int) -> Iterator[Text]:
    axis, values = bar_axis(chart), chart.series[0].ys
    labels = [cell_text(label) for label in chart.labels]
    column = max(map(cell_width, labels))
    room = max(8, min(BAR_WIDTH, width - column - _NUMBER))
    for label, value in zip(labels, values, strict=True):
        position = axis.position(value)
        length = 0 if position is None else round(position * room)
        yield Text.assemble(
            f"{pad(label, column)} ", ("█" * length, STYLES[0]), f" {number(value)}"
        )
    yield Text(cell_text(chart.x_label), style="dim")


def _lines(chart: Chart, width: int) -> Iterator[Text]:
    across, up = axes(chart)
    marks = {
        round((1 - position) * (HEIGHT - 1)): text
        for value, text in up.marks()
        if (position := up.position(value)) is not None
    }
    margin = max(map(len, marks.values()), default=0)
    room = max(8, min(WIDTH, width - margin - 2))
    cells: dict[tuple[int, int], tuple[str, str]] = {}
    for position, series in reversed(list(enumerate(chart.series))):
        for x, y in zip(series.xs, series.ys, strict=True):
            column, row = across.position(x), up.position(y)
            if column is not None and row is not None:
                cell = (round((1 - row) * (HEIGHT - 1)), round(column * (room - 1)))
                cells[cell] = (MARKS[position % len(MARKS)], STYLES[position % len(STYLES)])
    for row in range(HEIGHT):
        line = Text(f"{marks.get(row, ''):>{margin}} {'┤' if row in marks else '│'}")
        for column in range(room):
            mark, style = cells.get((row, column), (" ", ""))
            line.append(mark, style)
        yield line
    yield Text(" " * (margin + 1) + "└" + "─" * room)
    ends = f"{across.low:g}".ljust(room - len(f"{across.high:g}")) + f"{across.high:g}"
    yield Text(" " * (margin + 2) + ends)
    yield Text(" " * (margin + 2) + cell_text(chart.x_label), style="dim")
    yield from _legend(chart, margin + 2, width)


def _legend(chart: Chart, margin: int, width: int) -> Iterator[Text]:
    """Yield the names of the series beside their marks, as many in a line as fit."""
    line = Text(" " * margin)
    for position, series in enumerate(chart.series):
        entry = f"{MARKS[position % len(MARKS)]} {cell_text(series.name)}   "
        if cell_width(line.plain + entry.rstrip()) > width and line.plain.strip():
            yield line
            line = Text(" " * margin)
        line.append(entry, STYLES[position % len(STYLES)])
    yield line
