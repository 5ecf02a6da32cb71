"""Merge what several backends measured of the parts of one sequence of gradients.

Shapes: n gradients, W numbers per gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from seismograd.measure.backend import Measurement
from seismograd.schema import FloatArray

Part = tuple[Sequence[int], Measurement]  # the positions among the n, and the measurement of those


class _MergedPending:
    """Pending as long as any part is; then its numbers move to their positions."""

    def __init__(self, parts: Sequence[Part], whole: Measurement, scalars: Measurement) -> None:
        self._parts, self._whole, self._scalars = parts, whole, scalars

    def is_done(self) -> bool:
        return all(
            part.pending is None or part.pending.is_done()
            for part in (*(p for _, p in self._parts), self._scalars)
        )

    def finish(self) -> None:
        parts, self._parts = self._parts, ()
        for part in (*(p for _, p in parts), self._scalars):
            if part.pending is not None:
                part.pending.finish()
        for positions, part in parts:
            for whole, numbers in (
                (self._whole.values, part.values),
                (self._whole.samples, part.samples),
            ):
                for name, value in numbers.items():
                    whole[name][list(positions)] = value
        self._whole.scalars[:] = self._scalars.scalars


def merge_measurements(num: int, parts: Sequence[Part], scalars: Measurement) -> Measurement:
    """Return the merged parts, with the scalars of one of them; pending where any is."""
    first = parts[0][1]
    whole = Measurement(
        _blank(num, first.values), _blank(num, first.samples), np.full(len(scalars.scalars), np.nan)
    )
    pending = _MergedPending(parts, whole, scalars)
    if pending.is_done():
        pending.finish()
        return whole
    return Measurement(whole.values, whole.samples, whole.scalars, pending)


def _blank(num: int, like: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    return {name: np.full((num, *value.shape[1:]), np.nan) for name, value in like.items()}
