"""A page on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from seismograd.i18n import translate
from seismograd.lab.experiments import Experiment
from seismograd.lab.page import Chart, Page, Paragraph, Table, number, words
from seismograd.lab.scale import axes, bar_axis
from seismograd.prose import cell_width, pad, wrap

WIDTH, HEIGHT = 60, 14
BAR_WIDTH = 40
TEXT_WIDTH = 96
MARKS = "●▲■◆○△"
STYLES = ("cyan", "yellow", "magenta", "green", "red", "blue")


def render(page: Page) -> RenderableType:
    """The page as rich draws it."""
    return Group(*_parts(page))


def listing(experiments: Sequence[Experiment]) -> RenderableType:
    """The experiments, each with what it shows."""
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
        elif isinstance(block, Table):
            yield _table(block)
        else:
            yield _chart(block)
    yield Text()
    yield Text(translate("Try next:"), style="bold")
    for text, code in page.following:
        yield Text("\n".join(wrap(text.render(), TEXT_WIDTH)))
        yield Text("\n".join(f"    {line}" for line in code.splitlines()), style="cyan")


def _table(table: Table) -> RenderableType:
    grid = Grid(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for place, heading in enumerate(table.headings):
        grid.add_column(words(heading), justify="right" if place else "left", no_wrap=True)
    for row in table.rows:
        grid.add_row(*(words(cell) for cell in row))
    return grid


def _chart(chart: Chart) -> RenderableType:
    return Group(Text(chart.title.render(), style="bold"), *(_bars(chart) if chart.kind == "bars" else _lines(chart)))


def _bars(chart: Chart) -> Iterator[Text]:
    axis, values = bar_axis(chart), chart.series[0].ys
    labels = [words(label) for label in chart.labels]
    column = max(map(cell_width, labels))
    for label, value in zip(labels, values, strict=True):
        place = axis.place(value)
        length = 0 if place is None else round(place * BAR_WIDTH)
        yield Text.assemble(f"{pad(label, column)} ", ("█" * length, STYLES[0]), f" {number(value)}")
    yield Text(words(chart.x_label), style="dim")


def _lines(chart: Chart) -> Iterator[Text]:
    across, up = axes(chart)
    cells: dict[tuple[int, int], tuple[str, str]] = {}
    for place, series in reversed(list(enumerate(chart.series))):
        for x, y in zip(series.xs, series.ys, strict=True):
            column, row = across.place(x), up.place(y)
            if column is not None and row is not None:
                cell = (round((1 - row) * (HEIGHT - 1)), round(column * (WIDTH - 1)))
                cells[cell] = (MARKS[place % len(MARKS)], STYLES[place % len(STYLES)])
    marks = {round((1 - place) * (HEIGHT - 1)): text for value, text in up.marks() if (place := up.place(value)) is not None}
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
    yield Text(" " * (margin + 2) + words(chart.x_label), style="dim")
    legend = Text(" " * (margin + 2))
    for place, series in enumerate(chart.series):
        legend.append(f"{MARKS[place % len(MARKS)]} {words(series.name)}   ", STYLES[place % len(STYLES)])
    yield legend
