"""The cells of a notebook that call `watch`: one that is run again ends what it began before."""

from __future__ import annotations

import linecache
import sys
from types import FrameType
from typing import Protocol
from weakref import ReferenceType, ref

Cell = tuple[str, int, str]  # the text of the cell's line, its number, and where it is called from


class Closable(Protocol):
    """A recording."""

    def close(self) -> None:
        """Finish it."""
        ...


class CellRuns:
    """Remembers what each cell has begun, while somebody holds it."""

    def __init__(self) -> None:
        self._open: dict[Cell, ReferenceType[Closable]] = {}
        self._num_begun: dict[Cell, int] = {}

    def begin(self, cell: Cell) -> int:
        """Close what this cell began before, and return how often it has begun something."""
        earlier = self._open.pop(cell, None)
        recording = None if earlier is None else earlier()
        if recording is not None:
            recording.close()
        self._num_begun[cell] = self._num_begun.get(cell, 0) + 1
        return self._num_begun[cell]

    def keep(self, cell: Cell, recording: Closable) -> None:
        """Remember what it has begun."""
        self._open[cell] = ref(recording)


CELL_RUNS = CellRuns()


def calling_cell(frame: FrameType) -> Cell | None:
    """Return the cell whose own statement this frame is in; `None` in a script, a function, or
    where the text of the cell is not known.
    """
    if "IPython" not in sys.modules or frame.f_code.co_name not in ("<module>", "<cell line: 0>"):
        return None
    name = frame.f_code.co_filename
    if not (name.startswith("<ipython-input-") or "ipykernel_" in name):
        return None
    line = linecache.getline(name, frame.f_lineno).strip()
    return (line, frame.f_lineno, frame.f_code.co_name) if line else None
