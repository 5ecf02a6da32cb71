"""The overhead budget: how much of the training's time watching may take, and what is left out to
stay below it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from seismograd.i18n import Message, say
from seismograd.schema import SAMPLE_EVERY

SHARE = 0.02  # of wall time, by default
# overhead per step that the default budget always allows: a tiny model's step takes no longer than
# our own work
FREE_STEP_S = 5e-4
# seconds after the first step before anything is left out: rules need the early steps
MIN_STEPS, MIN_TIME_S = 1000, 30.0
WINDOW = 50  # steps that are judged together
MAX_PATIENCE = 64  # windows
WELL_BELOW = 0.4  # share of the budget below which something is resumed


@dataclass(frozen=True, slots=True)
class Thinning:
    """What is measured: sampled statistics at every `sample_every`-th step of an optimizer, all
    others at every `full_every`-th; in between only whether the gradients are finite. `extras`: the
    update probe, graph inspection and loss pairs.
    """

    sample_every: int = SAMPLE_EVERY
    full_every: int = 1
    extras: bool = True


WHOLE = Thinning()
FEWER_SAMPLES = (WHOLE, Thinning(4 * SAMPLE_EVERY), Thinning(16 * SAMPLE_EVERY, extras=False))
# Checking whether gradients are finite can cost as much as measuring them, as with the kernel;
# leaving out more would then save nothing.
FEWER_MEASURED = (
    *FEWER_SAMPLES,
    *(Thinning(16 * SAMPLE_EVERY, every, False) for every in (4, 16, 64)),
)


class OverheadBudget:
    """Compares the overhead of each `WINDOW` of steps with the budget, and moves up or down a
    ladder of `Thinning`.

    It resumes measurements only when the overhead is well below, and each time that proves to be a
    mistake waits twice as long before it tries again.

    Args:
        share: of wall time; `None` for the default, which exempts short steps and short runs; an
            explicit share does not.
        ladder: from everything to the least.
    """

    def __init__(
        self, share: float | None = None, ladder: Sequence[Thinning] = FEWER_SAMPLES
    ) -> None:
        self._share = SHARE if share is None else share
        self._free_s = FREE_STEP_S if share is None else 0.0
        self._min_steps, self._min_time_s = (
            (MIN_STEPS, MIN_TIME_S) if share is None else (WINDOW, 0.0)
        )
        self._ladder = tuple(ladder)
        self._rung = self._highest = 0
        self.thinning = self._ladder[0]  # what to measure now
        # end time and overhead of each
        self._steps: deque[tuple[float, float]] = deque(maxlen=WINDOW + 1)
        self._num_steps = 0
        self._start_s: float | None = None
        self._num_judged = 0
        self._patience, self._waited = 1, 0

    def step_ended(self, time_s: float, overhead_s: float) -> Message | None:
        """Account for a step that ended at `time_s` with this overhead; return a message for the
        user when more is left out than ever before.
        """
        if self._start_s is None:
            self._start_s = time_s
        self._num_steps += 1
        self._steps.append((time_s, overhead_s))
        if (
            self._num_steps < self._min_steps
            or time_s - self._start_s < self._min_time_s
            or len(self._steps) <= WINDOW
        ):
            return None
        wall_s = time_s - self._steps[0][0]
        spent_s = sum(cost for _, cost in self._steps) - self._steps[0][1]
        self._steps.clear()
        self._steps.append((time_s, overhead_s))
        allowed_s = max(self._share * wall_s, self._free_s * WINDOW)
        return self._judge(
            spent_s / allowed_s if allowed_s > 0 else 1.0, spent_s / wall_s if wall_s > 0 else 1.0
        )

    def _judge(self, of_allowed: float, of_wall: float) -> Message | None:
        if of_allowed > 1 and self._rung < len(self._ladder) - 1:
            if self._rung < self._highest:  # resuming was a mistake
                self._patience = min(2 * self._patience, MAX_PATIENCE)
            self._rung, self._waited = self._rung + 1, 0
            self.thinning = self._ladder[self._rung]
            if self._rung > self._highest:
                self._highest = self._rung
                return _thinning_message(self.thinning, of_wall, self._share)
        elif of_allowed < WELL_BELOW and self._rung > 0:
            self._waited += 1
            if self._waited >= self._patience:
                self._rung, self._waited = self._rung - 1, 0
                self.thinning = self._ladder[self._rung]
        else:
            self._waited = 0
        return None


def _thinning_message(thinning: Thinning, of_wall: float, share: float) -> Message:
    took, budget = f"{100 * of_wall:.1f}%", f"{100 * share:.3g}%"
    if thinning.full_every > 1:
        return say(
            "watching took {took} of the time, more than the budget of {budget}: from now on "
            "gradients are measured every {count} steps and only checked for NaN and infinities in "
            "between",
            took=took,
            budget=budget,
            count=thinning.full_every,
        )
    if not thinning.extras:
        return say(
            "watching took {took} of the time, more than the budget of {budget}: from now on "
            "histograms are recorded every {count} steps, and updates of the weights are not "
            "measured",
            took=took,
            budget=budget,
            count=thinning.sample_every,
        )
    return say(
        "watching took {took} of the time, more than the budget of {budget}: from now on "
        "histograms are recorded every {count} steps",
        took=took,
        budget=budget,
        count=thinning.sample_every,
    )
