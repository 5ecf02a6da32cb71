"""A table that fits the terminal: columns that do not fit are left out, least informative first,
and named below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from seismograd.i18n import translate
from seismograd.views.text_layout import cell_width

Row = TypeVar("Row")

_GAP = 2


# without slots: in Python 3.11 typing could not set `__orig_class__` on a frozen one with slots
@dataclass(frozen=True)
class TableColumn(Generic[Row]):
    """One column: its title (a msgid), its cell for a row, and its style."""

    title: str
    justify: Literal["left", "right"]
    cell: Callable[[Row], str]
    style: Callable[[Row], str] = lambda _: ""


@dataclass(frozen=True, slots=True)
class FittingTable(Generic[Row]):
    """Rows in columns, the first of which is folded rather than left out.

    `left_out_first` are the columns that a narrow terminal omits, in that order.
    """

    rows: Sequence[Row]
    columns: Sequence[TableColumn[Row]]
    left_out_first: Sequence[TableColumn[Row]]

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        columns = self._fitting(options.max_width)
        table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(
                translate(column.title),
                justify=column.justify,
                overflow="fold",
                no_wrap=column is not self.columns[0],
            )
        for row in self.rows:
            table.add_row(*(Text(column.cell(row), column.style(row)) for column in columns))
        yield table
        missing = [translate(column.title) for column in self.columns if column not in columns]
        if missing:
            yield Text(
                translate("(a wider terminal also shows: {columns})").format(
                    columns=", ".join(missing)
                ),
                style="dim",
            )

    def _fitting(self, width: int) -> list[TableColumn[Row]]:
        columns = list(self.columns)
        widths = {column.title: self._width(column) for column in columns}
        for column in self.left_out_first:
            if sum(widths[each.title] + _GAP for each in columns) - _GAP > width:
                columns.remove(column)
        return columns

    def _width(self, column: TableColumn[Row]) -> int:
        return max(
            cell_width(translate(column.title)),
            *(cell_width(column.cell(row)) for row in self.rows),
            0,
        )
