"""Statistics of several gradients as they lie in one array, a row for each statistic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from seismograd.schema import FloatArray

FEW = 64  # of which a list is made in less time than it takes to call NumPy
# `all` and `any` of an array are Python around these
every, some = np.logical_and.reduce, np.logical_or.reduce


class NumberTable(Mapping[str, FloatArray]):
    """Statistics by their names  # (n,) each; an array of one is made on access.

    `numbers` has them in its rows  # (R, n), and `places` says in which. They are made at each
    step, and together for many steps (`stacked`). `kept` is what was measured: an array of that, or
    its bytes with `num_rows`, of which one is made only when somebody asks.
    """

    __slots__ = ("kept", "num_rows", "places")

    def __init__(self, numbers: FloatArray, places: Mapping[str, int]) -> None:
        self.kept: FloatArray | bytes = numbers
        self.num_rows, self.places = len(numbers), places

    @property
    def numbers(self) -> FloatArray:
        """Return all of them  # (R, n)."""
        kept = self.kept
        if isinstance(kept, bytes):
            # of a copy, which may be written to as any other
            kept = self.kept = np.frombuffer(bytearray(kept)).reshape(self.num_rows, -1)
        return kept

    def __getitem__(self, name: str) -> FloatArray:
        return self.numbers[self.places[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


def are_ordinary(norms: FloatArray, nonfinites: FloatArray) -> bool:
    """Return whether no norm is 0 and no number not finite, where all of them were counted."""
    if len(norms) > FEW:
        return bool(every(norms) and not some(nonfinites))
    return all(norms.tolist()) and not any(nonfinites.tolist())


def stacked(tables: Sequence[Mapping[str, FloatArray]]) -> dict[str, FloatArray]:
    """Return the statistics of several measurements of the same gradients  # (B, n) each. Those of
    a single one are not copied.
    """
    first = tables[0]
    if len(tables) == 1:
        return {name: first[name][None] for name in first}
    if isinstance(first, NumberTable):
        alike = [
            table
            for table in tables
            if isinstance(table, NumberTable) and table.places is first.places
        ]
        if len(alike) == len(tables):
            together = _together(alike)
            return {name: together[place] for name, place in first.places.items()}
    return {name: np.array([table[name] for table in tables]) for name in first}


def _together(tables: Sequence[NumberTable]) -> FloatArray:
    """Return the numbers of tables with the same statistics of the same gradients  # (R, B, n)."""
    # the few that are arrays by now as bytes, too: so no array is made of each of the others
    raw = [each.kept if isinstance(each.kept, bytes) else each.kept.tobytes() for each in tables]
    whole = np.frombuffer(b"".join(raw)).reshape(len(raw), tables[0].num_rows, -1)
    return np.ascontiguousarray(whole.swapaxes(0, 1))
