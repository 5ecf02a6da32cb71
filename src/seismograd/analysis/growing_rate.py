"""Detect a schedule that raises the learning rate without end, until the loss breaks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from seismograd.analysis.block_rows import as_list
from seismograd.analysis.medians import median, moving_medians
from seismograd.analysis.schedule_code import limited
from seismograd.analysis.schedule_misfit import Misfit, values_of
from seismograd.i18n import say
from seismograd.schema import Fact, FloatArray, IntArray

NUM = 5  # losses whose median is a level
MIN_RISES = 3
BROKEN = 3.0  # times the lowest level
# They end where they were made to, or come back.
BOUNDED = (
    "OneCycleLR",
    "CyclicLR",
    "LinearLR",
    "ConstantLR",
    "PolynomialLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "ReduceLROnPlateau",
)


@dataclass(slots=True)
class RateGrowth:
    """The rates and losses of the steps of one optimizer, up to where the loss breaks."""

    first_rate: float = math.nan
    rate: float = math.nan
    lowest: float = math.inf  # level of the loss
    broken_at: int = -1  # the iteration
    loss: float = math.nan  # there
    has_fallen: bool = False  # the rate
    num_rises: int = 0
    since_rise: int = 0  # steps
    longest: int = 0  # that the rate stayed before it rose again
    _first: list[float] = field(default_factory=list[float])
    _recent: list[float] = field(default_factory=list[float])

    def read(self, iterations: IntArray, rates: FloatArray, losses: FloatArray) -> bool:
        """Read the next steps; return whether the loss is broken in one of them, and was not
        before. What follows on that, or on a rate that has fallen, is not read.
        """
        known = ~np.isnan(rates)
        if self.broken_at >= 0 or self.has_fallen or not known.any():
            return False
        iterations, rates, losses = iterations[known], rates[known], losses[known]
        before = np.concatenate([[self.rate], rates[:-1]])
        falls = np.flatnonzero(rates < before)
        stop = int(falls[0]) + 1 if len(falls) else len(rates)
        broken, level = self._read_losses(losses[:stop])
        if broken >= 0:
            self.broken_at, self.loss, stop = int(iterations[broken]), level, broken + 1
        self._read_rates(before[:stop], rates[:stop])
        return broken >= 0

    def _read_rates(self, before: FloatArray, rates: FloatArray) -> None:
        """Count how often the rate rose, and how long it stayed before that."""
        positive = rates[rates > 0]
        if math.isnan(self.first_rate) and len(positive):
            self.first_rate = float(positive[0])
        rises = np.flatnonzero(rates > before)
        if len(rises):
            stays = np.diff(rises, prepend=-1 - self.since_rise)
            self.num_rises += len(rises)
            self.longest, self.since_rise = max(self.longest, int(stays.max())), -1 - int(rises[-1])
        self.since_rise += len(rates)
        self.rate = float(rates[-1])
        self.has_fallen = bool(rates[-1] < before[-1])

    def _read_losses(self, losses: FloatArray) -> tuple[int, float]:
        """Return at which of these losses it is broken, and the level there; -1: at none."""
        is_finite = np.isfinite(losses)
        is_late = len(self._first) + np.cumsum(is_finite) >= NUM
        ends = np.flatnonzero(is_late & ~is_finite)[:1].tolist()
        at = np.flatnonzero(is_finite[: ends[0] if ends else None])
        known = losses[at].tolist()
        self._first = [*self._first, *known][:NUM]
        followed = [*self._recent, *known]
        self._recent = followed[1 - NUM :]
        levels = moving_medians(np.array(followed), NUM)
        lowest = np.minimum.accumulate(np.concatenate([[self.lowest], levels]))
        limits = BROKEN * lowest[:-1]
        high = (levels > limits) & (limits > 0) & (levels > median(self._first))
        for number in as_list(np.flatnonzero(high)[:1]):
            self.lowest = float(lowest[number])
            return int(at[len(at) - len(levels) + number]), float(levels[number])
        self.lowest = float(lowest[-1])
        return (ends[0], float(losses[ends[0]])) if ends else (-1, math.nan)

    @property
    def is_endless(self) -> bool:
        """Return whether the rate rose again and again, and was still rising where the loss
        broke.
        """
        is_still_rising = self.since_rise <= 2 * self.longest
        return self.broken_at >= 0 and self.num_rises >= MIN_RISES and is_still_rising


def endless(fact: Fact, growth: RateGrowth, least: float, most: float) -> Misfit | None:
    """Return the meaning of a schedule whose rate has grown by a factor between these two where the
    loss broke; beyond the second it is a test of rates.
    """
    base = fact.number("base")
    base = base if base > 0 else growth.first_rate
    if not growth.is_endless or fact.text("scheduler") in BOUNDED:
        return None
    if not least * base <= growth.rate <= most * base:
        return None
    values = values_of(fact) | {
        "base": base,
        "rate": growth.rate,
        "times": round(growth.rate / base),
        "step": growth.broken_at,
        "loss": growth.loss,
        "lowest": growth.lowest,
    }
    if math.isfinite(growth.loss):
        cause = say(
            "{scheduler} (stepped at {line}) raises the learning rate without end: at step {step} "
            "it is {rate:.3g}, {times} times the {base:.3g} of the optimizer, and the loss has "
            "risen from {lowest:.3g} to {loss:.3g}",
            **values,
        )
    else:
        cause = say(
            "{scheduler} (stepped at {line}) raises the learning rate without end: at step {step} "
            "it is {rate:.3g}, {times} times the {base:.3g} of the optimizer, and the loss is no "
            "longer finite",
            **values,
        )
    advice = say(
        "keep the learning rate of the optimizer, and let the schedule lower it, or raise it no "
        "further than to {base:.3g}: a factor of at most 1, a gamma below 1",
        **values,
    )
    return Misfit(
        5, "error", cause, advice, growth.rate, least * base, limited(fact), fact.text("created")
    )
