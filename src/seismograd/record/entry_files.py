"""Read the files with one entry per row, event, rank or pair of losses, their counts, and the
elements.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from seismograd.record import layout
from seismograd.record.checked_ranges import CheckedRanges, Stretch, outside
from seismograd.schema import FloatArray, IntArray, StepFlag

MAX_POINTED_TO = 2**20  # sites, or optimizers, of a run
_POINTERS = {layout.EVENTS: ("site", "optimizer")}


@dataclass(frozen=True, slots=True)
class EntryFiles:
    """The entries of a run, read by the dtypes that its own `meta.json` names and returned in those
    of this version.
    """

    path: Path
    dtypes: Mapping[str, np.dtype[Any]]
    num_elements: int
    checked: CheckedRanges

    def count(self, name: str) -> tuple[int, int]:
        """Return the number of whole entries, and of begun ones."""
        width = self.num_elements if name == layout.ELEMENTS else 1
        whole, rest = layout.num_whole_rows(self.path / name, self._recorded_dtype(name), width)
        return whole, whole + rest

    def read(self, name: str, start: int, stop: int) -> npt.NDArray[Any]:
        """Return entries `start` to `stop`; a field that the run does not have is NaN or 0.

        Of rows that are damaged all but the iteration is NaN or 0; damaged events, ranks and pairs
        are left out.
        """
        entries = self._read(name, start, stop)
        damaged = self.damaged(name, start, stop)
        if not damaged:
            return entries
        if name in layout.ENDS:
            parts = [entries[a - start : b - start] for a, b in outside(damaged, start, stop)]
            return np.concatenate([entries[:0], *parts])
        for begin, end in damaged:
            before = self._read(name, begin - 1, begin) if begin else None
            if name == layout.STEPS:
                blank = _blank(entries[begin - start : end - start])
                first = 0 if before is None else int(before["iteration"][0]) + 1
                blank["iteration"] = np.arange(first, first + len(blank))
                blank["flags"] = int(StepFlag.NO_LOSS)
                blank["epoch"] = -1
            else:
                entries[begin - start : end - start] = 0 if before is None else before[0]
        return entries

    def damaged(self, name: str, start: int, stop: int) -> list[Stretch]:
        """Return the stretches of entries between `start` and `stop` that are not what was
        written.
        """
        width = self.num_elements if name == layout.ELEMENTS else 1
        row_bytes = self._recorded_dtype(name).itemsize * width
        return self.checked.damaged_rows(name, row_bytes, start, stop)

    def num_checked_rows(self) -> int | None:
        """Return how many rows there are in the batches that are whole, as the log of checksums
        has them; `None` without one.
        """
        names = layout.ENTRY_DTYPES
        end = self.checked.whole_end(layout.STEPS, [*names]) if self.checked.names else None
        return None if end is None else end // self._recorded_dtype(layout.STEPS).itemsize

    def _read(self, name: str, start: int, stop: int) -> npt.NDArray[Any]:
        recorded = layout.read_rows(self.path / name, self._recorded_dtype(name), start, stop)
        for field in _POINTERS.get(name, ()):
            if field in (recorded.dtype.names or ()):
                pointers = recorded[field]
                # A damaged one must not make a reader keep room for as many.
                pointers[(pointers < -1) | (pointers >= MAX_POINTED_TO)] = -1
        ours: np.dtype[Any] = layout.ENTRY_DTYPES[name]
        if recorded.dtype == ours:
            return recorded
        entries: npt.NDArray[Any] = np.zeros(len(recorded), ours)
        for field in ours.names or ():
            if field in (recorded.dtype.names or ()):
                entries[field] = recorded[field]
            elif entries[field].dtype.kind == "f":
                entries[field] = np.nan
        return entries

    def lists(self) -> tuple[str, ...]:
        """Return the files of this run with any number of entries per row."""
        return tuple(name for name in layout.ENDS if name in self.dtypes)

    def ends(self, name: str, start: int, stop: int) -> IntArray:
        """Return the number of entries up to and with each row from `start`, which may be -1:
        before the first, 0  # (stop - start,).
        """
        if name not in self.dtypes:
            return np.zeros(stop - start, np.int64)
        ends = self.read(layout.ENDS[name], max(start, 0), stop).astype(np.int64, copy=False)
        return ends if start >= 0 else np.concatenate([np.zeros(1, np.int64), ends])

    def elements(self, start: int, stop: int) -> FloatArray:
        """Return the gradients of the requested elements  # (stop - start, E)."""
        dtype = layout.ENTRY_DTYPES[layout.ELEMENTS]
        elements = layout.read_rows(
            self.path / layout.ELEMENTS, dtype, start, stop, self.num_elements
        ).astype(np.float64, copy=False)
        for begin, end in self.damaged(layout.ELEMENTS, start, stop):
            elements[begin - start : end - start] = np.nan
        return elements

    def _recorded_dtype(self, name: str) -> np.dtype[Any]:
        return self.dtypes.get(name, layout.ENTRY_DTYPES[name])


def _blank(entries: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Make the entries say nothing, and return them."""
    for field in entries.dtype.names or ():
        entries[field] = np.nan if entries[field].dtype.kind == "f" else 0
    return entries
