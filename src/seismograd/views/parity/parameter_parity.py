"""Compare one parameter's gradient in two runs.

Shapes: W sums of a sketch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from seismograd.schema import FloatArray, State
from seismograd.views.parity.step_gradients import RecordedGradient
from seismograd.views.parity.tolerance import Tolerance


class Difference(StrEnum):
    """How a gradient of one run differs from that of the other."""

    SAME = "same"  # to rounding
    FACTOR = "factor"  # the same but for a factor
    MOVED = "moved"  # the same numbers in other places: a transposed or permuted shard
    SHAPE = "shape"  # of another number of scalars
    STATE = "state"  # absent, zero or not finite in one of them only
    DIFFERENT = "different"
    UNKNOWN = "unknown"  # not measured, or not finite in both


TELLING = 20.0  # times what rounding explains
AGREEING = frozenset({Difference.SAME, Difference.UNKNOWN})


@dataclass(frozen=True, slots=True, eq=False)
class ParameterParity:
    """Two gradients of one parameter. `ratio` of the norms, first / second; `cosine` and `distance`
    (the norm of the difference / that of the second) follow from sketches, and are NaN without.
    """

    name: str
    difference: Difference
    first: RecordedGradient
    second: RecordedGradient
    ratio: float = math.nan
    cosine: float = math.nan
    distance: float = math.nan

    @property
    def several(self) -> tuple[int, int]:
        """Return in which of the runs, 0 or 1, the parameter is several tensors of the shape that
        it has in the other one, and how many; (-1, 0) in none.
        """
        shapes = self.first.parameter.shape, self.second.parameter.shape
        for side in (0, 1):
            if len(shapes[side]) and shapes[side][1:] == shapes[1 - side]:
                return side, shapes[side][0]
        return -1, 0

    @property
    def agrees(self) -> bool:
        """Return whether nothing is known to differ."""
        return self.difference in AGREEING


def compare_gradients(
    name: str,
    first: RecordedGradient,
    second: RecordedGradient,
    tolerance: Tolerance,
    whole: float,
) -> ParameterParity:
    """Return how two gradients compare. `whole`: the smaller norm of all gradients of a run."""
    states = {first.state, second.state}
    if State.NOT_MEASURED in states or states == {State.NONFINITE}:
        return ParameterParity(name, Difference.UNKNOWN, first, second)
    if first.parameter.numel != second.parameter.numel:
        return ParameterParity(name, Difference.SHAPE, first, second)
    norms = [0.0 if g.state != State.FINITE else g.norm for g in (first, second)]
    floor = tolerance.floor * whole
    if State.NONFINITE not in states and max(norms) <= floor:
        return ParameterParity(name, Difference.SAME, first, second)
    if states != {State.FINITE}:
        return ParameterParity(name, Difference.STATE, first, second)
    ratio = first.norm / second.norm
    cosine = distance = scaled = math.nan
    if first.sketch is not None and second.sketch is not None:
        cosine = cosine_of(first.sketch, second.sketch)
        distance = distance_of(first.sketch, second.sketch)
        scaled = distance_of(first.sketch / ratio, second.sketch)
    measures = _Measures(first, second, ratio, distance, scaled, floor)
    difference = _difference(measures, tolerance)
    return ParameterParity(name, difference, first, second, ratio, cosine, distance)


@dataclass(frozen=True, slots=True, eq=False)
class _Measures:
    first: RecordedGradient
    second: RecordedGradient
    ratio: float
    distance: float  # NaN without sketches
    scaled: float  # that of the first divided by the ratio
    floor: float

    def is_close(self, tolerance: Tolerance, factor: float) -> bool:
        """Return whether the first is `factor` times the second, by all that is known of both."""
        distance = self.distance if factor == 1 else self.scaled
        slack = self.floor / self.second.norm
        if not math.isnan(distance):
            return distance <= tolerance.distance + slack
        # The largest scalar and the sum are as far apart as two gradients can be at most.
        allowed = (tolerance.distance + slack) * self.second.norm
        root = math.sqrt(self.second.parameter.numel)
        return (
            abs(self.first.largest / factor - self.second.largest) <= allowed
            and abs(self.first.total / factor - self.second.total) <= allowed * root
        )


def _difference(measures: _Measures, tolerance: Tolerance) -> Difference:
    slack = measures.floor / measures.second.norm
    same_norm = abs(measures.ratio - 1) <= tolerance.norm + slack
    if same_norm and measures.is_close(tolerance, 1):
        return Difference.SAME
    # Without sketches a small factor is not told from another gradient of nearly this norm.
    is_telling = not math.isnan(measures.distance) or (
        abs(math.log(measures.ratio)) > TELLING * tolerance.distance
    )
    if not same_norm and is_telling and measures.is_close(tolerance, measures.ratio):
        return Difference.FACTOR
    first, second = measures.first, measures.second
    same_numbers = abs(first.largest - second.largest) <= tolerance.norm * second.largest
    same_sum = abs(first.total - second.total) <= (
        tolerance.distance * (abs(second.total) + second.norm)
    )
    if same_norm and same_numbers and same_sum:
        return Difference.MOVED
    return Difference.DIFFERENT


def cosine_of(first: FloatArray, second: FloatArray) -> float:
    """Return the cosine between two gradients from their sketches  # (W,); NaN where one is zero or
    not finite. Its standard error is at most 1/√W.
    """
    norms = float(np.linalg.norm(first)) * float(np.linalg.norm(second))
    return float(first @ second) / norms if norms > 0 and math.isfinite(norms) else math.nan


def distance_of(first: FloatArray, second: FloatArray) -> float:
    """Return the norm of the difference of two gradients over that of the second  # (W,)."""
    norm = float(np.linalg.norm(second))
    difference = float(np.linalg.norm(first - second))
    return difference / norm if norm > 0 else math.nan
