"""Runs the matrix of trainings of several processes, and writes what it measures into
docs/ranks.md: `python tools/ranks_matrix.py [KIND...]`. All take about ten minutes on two cores.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.distributed.matrix_check import Distance

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "ranks.md"
BEGIN, END = "<!-- matrix: measured by tools/ranks_matrix.py -->", "<!-- end of matrix -->"
HEAD = (
    "| training | processes | float32 | bfloat16 | bfloat16 within | float16 within, loss scale |\n"
    "|---|---|---|---|---|---|"
)


def rounded_up(value: float) -> str:
    """Return a number with one digit, not smaller than it is."""
    exponent = math.floor(math.log10(value))
    digit = math.ceil(value / 10**exponent - 1e-9)
    return f"{digit * 10**exponent:.0e}"


def text_of(distances: list[Distance], alike: bool) -> str:
    """Return what stands in a cell: the largest of the distances from one process, and where it
    rounds otherwise also that from the gradients of the processes.
    """
    alone = max(max(each.alone, each.alone_whole) for each in distances)
    held = max(max(each.held, each.held_whole) for each in distances)
    return rounded_up(alone) if alike else f"{rounded_up(alone)}; {rounded_up(held)}"


def listed(kind: str, ranks: int) -> list[bool]:
    """Return for each column whether there is such a training."""
    from tests.distributed.matrix_cells import CELLS, Numbers

    there = {cell.numbers for cell in CELLS.values() if (cell.kind, cell.ranks) == (kind, ranks)}
    return [numbers in there for numbers in Numbers]


def rows_of(text: str) -> list[tuple[str, ...]]:
    """Return the rows of the matrix in this page."""
    table = text.partition(BEGIN)[2].partition(END)[0].strip().splitlines()[2:]
    return [tuple(cell.strip() for cell in row.strip("|").split("|")) for row in table]


def measured(kind: str, ranks: int) -> str:
    """Return the row of these trainings, measured anew."""
    from tests.distributed.matrix_cells import CELLS, KINDS, Numbers
    from tests.distributed.matrix_check import assert_near, measure

    cells = [c for c in CELLS.values() if (c.kind, c.ranks) == (kind, ranks)]
    with TemporaryDirectory() as folder:
        found = measure([c.name for c in cells], ranks, Path(folder))
    for name, distance in found.items():
        assert_near(name, distance)
    row = [KINDS[kind].name, str(ranks)]
    for numbers in Numbers:
        chosen = [c for c in cells if c.numbers is numbers]
        alike = all(c.rounds_alike for c in chosen)
        row.append(text_of([found[c.name] for c in chosen], alike) if chosen else "")
    return line_of(row)


def line_of(row: Sequence[str]) -> str:
    """Return a row as the page has it."""
    return f"| {' | '.join(row)} |"


def main(chosen: Sequence[str]) -> None:
    """Measure these kinds, or all, and write the page after each row."""
    sys.path.insert(0, str(ROOT))
    from tests.distributed.matrix_cells import KINDS

    lines = {row[:2]: line_of(row) for row in rows_of(PAGE.read_text(encoding="utf8"))}
    for kind in chosen or KINDS:
        for ranks in KINDS[kind].ranks:
            lines[KINDS[kind].name, str(ranks)] = line = measured(kind, ranks)
            print(line, flush=True)
            order = [(each.name, str(num)) for each in KINDS.values() for num in each.ranks]
            listed = "\n".join(lines[key] for key in order if key in lines)
            before, _, rest = PAGE.read_text(encoding="utf8").partition(BEGIN)
            text = f"{before}{BEGIN}\n{HEAD}\n{listed}\n{END}{rest.partition(END)[2]}"
            PAGE.write_text(text, encoding="utf8")


if __name__ == "__main__":
    main(sys.argv[1:])
