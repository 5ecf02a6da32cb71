"""The statistics of every gradient, and the states that a gradient can be in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Literal

SCHEMA_VERSION = 1


class State(IntEnum):
    """The kind of a value: four states of a gradient that are never mixed, and `NOT_MEASURED`."""

    NOT_MEASURED = 0
    ABSENT = 1
    ZERO = 2
    FINITE = 3
    NONFINITE = 4


class StatisticKind(StrEnum):
    """How a statistic of a whole follows from those of its parts."""

    NORM = "norm"  # the L2 norm of theirs
    LARGEST = "largest"
    SUM = "sum"
    COUNT = "count"  # a sum that does not change when the gradient is multiplied by a number
    MEAN = "mean"  # of what was looked at in each
    FLAG = "flag"  # 1 where it is 1 for any of them; never unknown
    UNKNOWN = "unknown"  # of a record of a later version


@dataclass(frozen=True, slots=True)
class Statistic:
    """One number (or `width` numbers) per parameter, of the ready gradient unless `description`
    says otherwise.

    `dtype` is the NumPy dtype it is recorded in; `sampled` ones are measured on every tenth
    iteration only. `subject` is what a backend measures it of; `"step"`: only the session knows it,
    from what a step used and did. Tables of statistics are derived from these and `kind`, so that
    what a statistic is stands in `STATISTICS` alone.
    """

    name: str
    dtype: str
    unit: str
    description: str
    sampled: bool = False
    width: int = 1
    kind: StatisticKind = StatisticKind.UNKNOWN
    subject: Literal["gradient", "weight", "step"] = "gradient"


HISTOGRAM_BINS = 64
HISTOGRAM_FIRST_EXPONENT = -96
HISTOGRAM_EXPONENTS_PER_BIN = 2

STATISTICS = (
    Statistic(
        "grad_norm",
        "<f8",
        "1",
        "L2 norm of the gradient, summed in double precision",
        kind=StatisticKind.NORM,
    ),
    Statistic("grad_max", "<f4", "1", "largest |g|", kind=StatisticKind.LARGEST),
    Statistic("grad_sum", "<f4", "1", "sum of the gradient's scalars", kind=StatisticKind.SUM),
    Statistic("zeros", "<u4", "scalars", "scalars that are exactly zero", kind=StatisticKind.COUNT),
    Statistic(
        "nonfinite",
        "<u4",
        "scalars",
        "scalars that are NaN or infinite",
        kind=StatisticKind.COUNT,
    ),
    Statistic(
        "applied_norm",
        "<f4",
        "1",
        "L2 norm of what the optimizer consumed: after unscale, clip and anything done by hand",
        kind=StatisticKind.NORM,
        subject="step",
    ),
    Statistic(
        "carried",
        "<u1",
        "0/1",
        "1 where the gradient still held what an earlier step had already used",
        kind=StatisticKind.FLAG,
        subject="step",
    ),
    Statistic(
        "update_ratio",
        "<f4",
        "1",
        "norm of the update, before 16-bit weights are rounded, / norm of the weights, over the "
        "probed scalars; NaN: not probed",
        kind=StatisticKind.MEAN,
        subject="step",
    ),
    Statistic(
        "unmoved",
        "<f4",
        "share",
        "probed scalars with a gradient that the update did not change / those with one; NaN: not "
        "probed",
        kind=StatisticKind.MEAN,
        subject="step",
    ),
    Statistic(
        "weight_norm",
        "<f8",
        "1",
        "L2 norm of the weights before the update",
        sampled=True,
        kind=StatisticKind.NORM,
        subject="weight",
    ),
    Statistic(
        "dead_rows",
        "<f4",
        "rows",
        "rows whose gradient was zero at every iteration since the last sample; NaN where rows "
        "are split over processes",
        sampled=True,
        kind=StatisticKind.COUNT,
    ),
    Statistic(
        "exponents",
        "<u4",
        "scalars",
        "scalars by binary exponent: bin b holds 2^(2b-96) <= |g| < 2^(2b-94), the ends all "
        "beyond; without zero and non-finite",
        sampled=True,
        width=HISTOGRAM_BINS,
        kind=StatisticKind.COUNT,
    ),
)
# What a backend measures of a gradient at every iteration.
MEASURED_EVERY_TIME = tuple(
    each for each in STATISTICS if each.subject == "gradient" and not each.sampled
)

SAMPLE_EVERY = 10
