"""Schedule the sketches of gradients: at every so many steps, rarer where they cost too much."""

from __future__ import annotations

SHARE = 0.005  # of the wall time between two of them
FREE_PER_STEP_S = 2e-5  # what is always allowed, per step in between
MAX_FACTOR = 64


class SketchSchedule:
    """Steps at which gradients are sketched: multiples of `every`, and of ever higher powers of two
    times it while one costs more than its share, so that two runs have steps in common.

    Args:
        every: number of steps; 0 for never.
    """

    def __init__(self, every: int) -> None:
        self._every, self._factor = every, 1
        self._last: tuple[int, float, float] | None = None  # step, end, cost

    def is_due(self, step: int, now_s: float) -> bool:
        """Return whether to sketch at this step, counted from 0, which comes at this time."""
        if self._every == 0 or step % (self._every * self._factor):
            return False
        if self._last is not None and step > self._last[0]:
            before, ended_s, cost_s = self._last
            allowed_s = max(SHARE * (now_s - ended_s), FREE_PER_STEP_S * (step - before))
            if cost_s > allowed_s:
                self._factor = min(2 * self._factor, MAX_FACTOR)
            elif 4 * cost_s < allowed_s:
                self._factor = max(self._factor // 2, 1)
        return step % (self._every * self._factor) == 0

    def took(self, step: int, now_s: float, cost_s: float) -> None:
        """Account for the sketches of a step, which were complete at this time."""
        # the first one also loads and allocates
        self._last = (step, now_s, 0.0 if self._last is None else cost_s)
