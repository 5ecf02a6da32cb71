"""Detect a schedule that raises the learning rate without end, until the loss breaks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from seismograd.analysis.medians import median
from seismograd.analysis.schedule_code import limited
from seismograd.analysis.schedule_misfit import Misfit, values_of
from seismograd.i18n import say
from seismograd.schema import Fact

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

    def add(self, iteration: int, rate: float, loss: float) -> bool:
        """Add a step; return whether the loss is broken there, and was not before."""
        if self.broken_at >= 0 or self.has_fallen or math.isnan(rate):
            return False
        if math.isnan(self.first_rate) and rate > 0:
            self.first_rate = rate
        self.since_rise += 1
        if rate > self.rate:
            self.num_rises += 1
            self.longest, self.since_rise = max(self.longest, self.since_rise), 0
        self.has_fallen = rate < self.rate
        self.rate = rate
        if not math.isfinite(loss):
            return self._breaks(iteration, loss) if len(self._first) == NUM else False
        self._first += [loss] if len(self._first) < NUM else []
        self._recent = [*self._recent, loss][-NUM:]
        if len(self._recent) < NUM:
            return False
        now = median(self._recent)
        if now > BROKEN * self.lowest > 0 and now > median(self._first):
            return self._breaks(iteration, now)
        self.lowest = min(self.lowest, now)
        return False

    def _breaks(self, iteration: int, loss: float) -> bool:
        self.broken_at, self.loss = iteration, loss
        return True

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
