"""Compute the statistics of a gradient that no process holds: each has a summand, and sends it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from seismograd.distributed.rank_report import RankReport
from seismograd.schema import (
    HISTOGRAM_BINS,
    HISTOGRAM_EXPONENTS_PER_BIN,
    HISTOGRAM_FIRST_EXPONENT,
    MEASURED_EVERY_TIME,
    FloatArray,
    State,
    StatisticKind,
)
from seismograd.tensors.isolation import in_own_context


@dataclass(frozen=True, slots=True)
class SummedGradient:
    """A part of a gradient of which several processes have a summand.

    `members`: (process, index of its summand) pairs, and `positions` where each is among what its
    process sent. The statistics of the sum replace those that
    the first of them sent at `position`; with fewer than `num_summands`, it counts as not measured.
    """

    position: int
    members: tuple[tuple[int, int], ...]
    num_summands: int
    positions: tuple[int, ...] = ()


@in_own_context
def with_sums(
    sums: Sequence[SummedGradient], reports: Sequence[RankReport]
) -> tuple[RankReport, ...]:
    """Return the reports with the statistics of sums in place of those of the first summand."""
    changed = list(reports)
    for each in sums:
        first = each.members[0][0]
        given = [reports[process].summands[number] for process, number in each.members]
        known = [numbers for numbers in given if numbers is not None]
        with np.errstate(invalid="ignore", over="ignore"):
            whole = np.sum(known, 0) if len(known) == each.num_summands == len(given) else None
        changed[first] = _with(changed[first], each.position, whole)
    return tuple(changed)


@in_own_context
def _with(report: RankReport, position: int, whole: FloatArray | None) -> RankReport:
    state = report.state.copy()
    if whole is None:
        if state[position] != State.ABSENT:
            state[position] = State.NOT_MEASURED
        return replace(report, state=state)
    values = {name: numbers.copy() for name, numbers in report.values.items()}
    samples = {name: numbers.copy() for name, numbers in report.samples.items()}
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        coefficient = values["applied_norm"][position] / values["grad_norm"][position]
        largest = np.abs(whole).max(initial=0.0)
        scale = largest if np.isfinite(largest) and largest > 0 else 1.0
        norm = np.sqrt(np.square(whole / scale).sum()) * scale
        of_kind = {
            StatisticKind.NORM: norm,
            StatisticKind.LARGEST: largest,
            StatisticKind.SUM: whole.sum(),
        }
        counts = {
            "zeros": np.count_nonzero(whole == 0),
            "nonfinite": np.count_nonzero(~np.isfinite(whole)),
        }
        found = {
            each.name: counts[each.name] if each.kind is StatisticKind.COUNT else of_kind[each.kind]
            for each in MEASURED_EVERY_TIME
        }
        found["applied_norm"] = norm * coefficient
    for name, value in found.items():
        values[name][position] = value
    if "exponents" in samples:
        samples["exponents"][position] = _exponents(whole)
    state[position] = (
        State.NONFINITE
        if found["nonfinite"]
        else State.ZERO
        if found["zeros"] == len(whole)
        else State.FINITE
    )
    return replace(report, state=state, values=values, samples=samples)


def _exponents(whole: FloatArray) -> FloatArray:
    """Return the histogram of `seismograd.schema`  # (W,)."""
    counted = whole[np.isfinite(whole) & (whole != 0)]
    exponents = np.frexp(counted)[1] - 1
    bins = np.clip(
        (exponents - HISTOGRAM_FIRST_EXPONENT) // HISTOGRAM_EXPONENTS_PER_BIN, 0, HISTOGRAM_BINS - 1
    )
    return np.bincount(bins, minlength=HISTOGRAM_BINS).astype(np.float64)
