"""At which steps of an optimizer its gradients are measured, where `--every` leaves some out."""

from __future__ import annotations

from enum import Enum, auto
from math import isfinite

from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.loop.overhead_budget import Thinning

FIRST_STEPS = 10  # of an optimizer, which are always measured: rules need them


class Extent(Enum):
    """What is read of the gradients of a step."""

    MEASURED = auto()
    CHECKED = auto()  # only whether they are finite; measured where they are not
    UNREAD = auto()  # only which there are


class MeasuredSteps:
    """Has the first steps of an optimizer measured and then every `every`-th; and, where this
    process trains alone, each whose loss is known not to be finite: several processes compare
    their measurements, and another one's loss may be finite.
    """

    def __init__(self, every: int = 1, is_single: bool = True) -> None:
        self.every, self._is_single = every, is_single

    def extent(self, window: OptimizerWindow, thinning: Thinning) -> tuple[Extent, bool]:
        """Return what is read of the next step's gradients, and whether the step is one with
        sampled statistics, which only one that is measured can be.
        """
        number, every = window.num_steps, self.every
        # As many measured ones as ever lie between two: a row counts as dead if it was in all.
        sampled = number % (thinning.sample_every * every) == 0
        if every > 1 and number >= FIRST_STEPS and number % every:
            is_read = self._is_single and _is_lost(window)
            return Extent.MEASURED if is_read else Extent.UNREAD, sampled
        return Extent.CHECKED if number % thinning.full_every else Extent.MEASURED, sampled


def _is_lost(window: OptimizerWindow) -> bool:
    return any(loss.known and not isfinite(loss.value) for loss in window.losses)
