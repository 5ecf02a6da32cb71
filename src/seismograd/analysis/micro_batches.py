"""The micro-batches of an accumulation: the backwards of one line that a step adds up."""

from __future__ import annotations

import math
from dataclasses import dataclass

from seismograd.analysis.step_window import StepWindow, WindowEvent
from seismograd.schema import EventFlag


@dataclass(frozen=True, slots=True)
class MicroBatches:
    """The backwards of the line of a window that has most of them, without those that are other
    losses of the same forward pass.
    """

    backwards: tuple[WindowEvent, ...]

    @classmethod
    def of(cls, window: StepWindow) -> MicroBatches:
        """Return those of a window; they may be none."""
        own = [each for each in window.backwards if not each.flags & EventFlag.SHARED]
        sites = [each.site for each in own]
        site = max(dict.fromkeys(sites), key=sites.count, default=-1)
        return cls(tuple(each for each in own if each.site == site))

    def __len__(self) -> int:
        return len(self.backwards)

    @property
    def first(self) -> WindowEvent:
        """Return the first backward."""
        return self.backwards[0]

    @property
    def last(self) -> WindowEvent:
        """Return the last backward."""
        return self.backwards[-1]

    @property
    def losses(self) -> list[float]:
        """Return the losses."""
        return [each.value for each in self.backwards]

    @property
    def counts(self) -> list[float]:
        """Return how many samples each loss is a mean over; NaN: not known."""
        return [each.count for each in self.backwards]

    @property
    def totals(self) -> list[float]:
        """Return the total weight of the samples in each loss: 1 in a mean; NaN: not known."""
        return [each.total for each in self.backwards]

    @property
    def are_finite(self) -> bool:
        """Return whether all losses are finite."""
        return all(map(math.isfinite, self.losses))

    def have(self, flag: EventFlag) -> list[bool]:
        """Return which of them have a flag."""
        return [bool(each.flags & flag) for each in self.backwards]

    def divisor(self, tolerance: float) -> int | None:
        """Return the number by which each mean loss is divided; `None`: none, different ones, or
        not known.
        """
        totals = self.totals
        if not all(0 < total <= 0.75 for total in totals) or not are_alike(totals, tolerance):
            return None
        divisor = round(1 / totals[0])
        return divisor if math.isclose(divisor * totals[0], 1.0, rel_tol=tolerance) else None


def are_alike(values: list[float], tolerance: float) -> bool:
    """Return whether the largest exceeds the smallest by no more than this share of it."""
    return max(values) <= min(values) * (1 + tolerance)
