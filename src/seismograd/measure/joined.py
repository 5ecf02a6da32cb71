"""What several backends measured of the parts of one sequence of gradients, as one.

Shapes: n gradients, W numbers per gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from seismograd.measure.backend import Measured
from seismograd.schema import FloatArray

Part = tuple[Sequence[int], Measured]  # the places among the n, and what was measured of them


class _AllPending:
    """Pending as long as any part is; then its numbers go to their places."""

    def __init__(self, parts: Sequence[Part], whole: Measured, scalars: Measured) -> None:
        self._parts, self._whole, self._scalars = parts, whole, scalars

    def is_done(self) -> bool:
        return all(part.pending is None or part.pending.is_done() for part in (*(p for _, p in self._parts), self._scalars))

    def finish(self) -> None:
        parts, self._parts = self._parts, ()
        for part in (*(p for _, p in parts), self._scalars):
            if part.pending is not None:
                part.pending.finish()
        for places, part in parts:
            for whole, numbers in ((self._whole.values, part.values), (self._whole.samples, part.samples)):
                for name, value in numbers.items():
                    whole[name][list(places)] = value
        self._whole.scalars[:] = self._scalars.scalars


def joined(num: int, parts: Sequence[Part], scalars: Measured) -> Measured:
    """The parts put together, with the scalars of one of them; pending where any is."""
    first = parts[0][1]
    whole = Measured(_blank(num, first.values), _blank(num, first.samples), np.full(len(scalars.scalars), np.nan))
    pending = _AllPending(parts, whole, scalars)
    if pending.is_done():
        pending.finish()
        return whole
    return Measured(whole.values, whole.samples, whole.scalars, pending)


def _blank(num: int, like: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    return {name: np.full((num, *value.shape[1:]), np.nan) for name, value in like.items()}
