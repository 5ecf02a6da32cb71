"""Statistics of several gradients as they lie in one array, a row for each statistic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from seismograd.schema import FloatArray

FEW = 64  # of which a list is made in less time than it takes to call NumPy


class NumberTable(Mapping[str, FloatArray]):
    """Statistics by their names  # (n,) each; an array of one is made on access.

    `numbers` has them in its rows  # (R, n), and `places` says in which. They are made at each
    step, and together for many steps (`stacked`).
    """

    __slots__ = ("numbers", "places")

    def __init__(self, numbers: FloatArray, places: Mapping[str, int]) -> None:
        self.numbers, self.places = numbers, places

    def __getitem__(self, name: str) -> FloatArray:
        return self.numbers[self.places[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


def stacked(tables: Sequence[Mapping[str, FloatArray]]) -> dict[str, FloatArray]:
    """Return the statistics of several measurements of the same gradients  # (B, n) each. Those of
    a single one are not copied.
    """
    first = tables[0]
    if len(tables) == 1:
        return {name: first[name][None] for name in first}
    if isinstance(first, NumberTable):
        numbers = [
            table.numbers
            for table in tables
            if isinstance(table, NumberTable) and table.places is first.places
        ]
        if len(numbers) == len(tables):
            together = np.stack(numbers, axis=1)  # (R, B, n)
            return {name: together[place] for name, place in first.places.items()}
    return {name: np.array([table[name] for table in tables]) for name in first}
