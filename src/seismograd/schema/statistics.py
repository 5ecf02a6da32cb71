"""The statistics of every gradient, and the states that a gradient can be in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

SCHEMA_VERSION = 1


class State(IntEnum):
    """The kind of a value: four states of a gradient that are never mixed, and `NOT_MEASURED`."""

    NOT_MEASURED = 0
    ABSENT = 1
    ZERO = 2
    FINITE = 3
    NONFINITE = 4


@dataclass(frozen=True, slots=True)
class Statistic:
    """One number (or `width` numbers) per parameter, of the ready gradient unless `description`
    says otherwise.

    `dtype` is the NumPy dtype it is recorded in; `sampled` ones are measured on every tenth
    iteration only.
    """

    name: str
    dtype: str
    unit: str
    description: str
    sampled: bool = False
    width: int = 1


HISTOGRAM_BINS = 64
HISTOGRAM_FIRST_EXPONENT = -96
HISTOGRAM_EXPONENTS_PER_BIN = 2

STATISTICS = (
    Statistic("grad_norm", "<f8", "1", "L2 norm of the gradient, summed in double precision"),
    Statistic("grad_max", "<f4", "1", "largest |g|"),
    Statistic("grad_sum", "<f4", "1", "sum of the gradient's scalars"),
    Statistic("zeros", "<u4", "scalars", "scalars that are exactly zero"),
    Statistic("nonfinite", "<u4", "scalars", "scalars that are NaN or infinite"),
    Statistic(
        "applied_norm",
        "<f4",
        "1",
        "L2 norm of what the optimizer consumed: after unscale, clip and anything done by hand",
    ),
    Statistic(
        "carried",
        "<u1",
        "0/1",
        "1 where the gradient still held what an earlier step had already used",
    ),
    Statistic(
        "update_ratio",
        "<f4",
        "1",
        "norm of the update, before 16-bit weights are rounded, / norm of the weights, over the "
        "probed scalars; NaN: not probed",
    ),
    Statistic(
        "unmoved",
        "<f4",
        "share",
        "probed scalars with a gradient that the update did not change / those with one; NaN: not "
        "probed",
    ),
    Statistic("weight_norm", "<f8", "1", "L2 norm of the weights before the update", sampled=True),
    Statistic(
        "dead_rows",
        "<f4",
        "rows",
        "rows whose gradient was zero at every iteration since the last sample; NaN where rows "
        "are split over processes",
        sampled=True,
    ),
    Statistic(
        "exponents",
        "<u4",
        "scalars",
        "scalars by binary exponent: bin b holds 2^(2b-96) <= |g| < 2^(2b-94), the ends all "
        "beyond; without zero and non-finite",
        sampled=True,
        width=HISTOGRAM_BINS,
    ),
)

SAMPLE_EVERY = 10
