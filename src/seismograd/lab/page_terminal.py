"""A page on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from seismograd.i18n import translate
from seismograd.lab.chart_axes import axes, bar_axis
from seismograd.lab.experiments import Experiment
from seismograd.lab.lab_page import Chart, Page, PageTable, Paragraph, cell_text, number
from seismograd.views.text_layout import cell_width, pad, wrap

WIDTH, HEIGHT = 60, 14
BAR_WIDTH = 40
TEXT_WIDTH = 96
MARKS = "●▲■◆○△"
STYLES = ("cyan", "yellow", "magenta", "green", "red", "blue")


def render(page: Page) -> RenderableType:
    """Return the page as rich draws it."""
    return Group(*_parts(page))


def listing(experiments: Sequence[Experiment]) -> RenderableType:
    """Return the experiments, each with a sentence about it."""
    grid = Grid(box=None, pad_edge=False, show_header=False, show_edge=False)
    grid.add_column(no_wrap=True)
    grid.add_column()
    for experiment in experiments:
        grid.add_row(experiment.name, translate(experiment.summary))
    return grid


def _parts(page: Page) -> Iterator[RenderableType]:
    yield Text(page.title.render(), style="bold")
    for block in page.blocks:
        yield Text()
        if isinstance(block, Paragraph):
            yield Text("\n".join(wrap(block.text.render(), TEXT_WIDTH)))
        elif isinstance(block, PageTable):
            yield _table(block)
        else:
            yield _chart(block)
    yield Text()
    yield Text(translate("Try next:"), style="bold")
    for text, code in page.following:
        yield Text("\n".join(wrap(text.render(), TEXT_WIDTH)))
        yield Text("\n".join(f"    {line}" for line in code.splitlines()), style="cyan")


def _table(table: PageTable) -> RenderableType:
    grid = Grid(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for position, heading in enumerate(table.headings):
        grid.add_column(cell_text(heading), justify="right" if position else "left", no_wrap=True)
    for row in table.rows:
        grid.add_row(*(cell_text(cell) for cell in row))
    return grid


def _chart(chart: Chart) -> RenderableType:
    return Group(
        Text(chart.title.render(), style="bold"),
        *(_bars(chart) if chart.kind == "bars" else _lines(chart)),
    )


def _bars(chart: Chart) -> Iterator[Text]:
    axis, values = bar_axis(chart), chart.series[0].ys
    labels = [cell_text(label) for label in chart.labels]
    column = max(map(cell_width, labels))
    for label, value in zip(labels, values, strict=True):
        position = axis.position(value)
        length = 0 if position is None else round(position * BAR_WIDTH)
        yield Text.assemble(
            f"{pad(label, column)} ", ("█" * length, STYLES[0]), f" {number(value)}"
        )
    yield Text(cell_text(chart.x_label), style="dim")


def _lines(chart: Chart) -> Iterator[Text]:
    across, up = axes(chart)
    cells: dict[tuple[int, int], tuple[str, str]] = {}
    for position, series in reversed(list(enumerate(chart.series))):
        for x, y in zip(series.xs, series.ys, strict=True):
            column, row = across.position(x), up.position(y)
            if column is not None and row is not None:
                cell = (round((1 - row) * (HEIGHT - 1)), round(column * (WIDTH - 1)))
                cells[cell] = (MARKS[position % len(MARKS)], STYLES[position % len(STYLES)])
    marks = {
        round((1 - position) * (HEIGHT - 1)): text
        for value, text in up.marks()
        if (position := up.position(value)) is not None
    }
    margin = max(map(len, marks.values()), default=0)
    for row in range(HEIGHT):
        line = Text(f"{marks.get(row, ''):>{margin}} {'┤' if row in marks else '│'}")
        for column in range(WIDTH):
            mark, style = cells.get((row, column), (" ", ""))
            line.append(mark, style)
        yield line
    yield Text(" " * (margin + 1) + "└" + "─" * WIDTH)
    ends = f"{across.low:g}".ljust(WIDTH - len(f"{across.high:g}")) + f"{across.high:g}"
    yield Text(" " * (margin + 2) + ends)
    yield Text(" " * (margin + 2) + cell_text(chart.x_label), style="dim")
    legend = Text(" " * (margin + 2))
    for position, series in enumerate(chart.series):
        legend.append(
            f"{MARKS[position % len(MARKS)]} {cell_text(series.name)}   ",
            STYLES[position % len(STYLES)],
        )
    yield legend
