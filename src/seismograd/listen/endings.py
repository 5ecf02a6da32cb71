"""Whether an iteration that has made its step is over, though nothing has begun the next one.

So it is before an evaluation, a checkpoint, a crash.
"""

from __future__ import annotations

from seismograd.listen.iteration import Iteration
from seismograd.listen.lanes import Lane
from seismograd.listen.registry import Registry

QUIET_S = 0.5  # since the last call that was heard
PATIENCE_S = 10.0  # the same, where the step of another optimizer is still expected


class Endings:
    """Of all lanes.

    What follows a step (`zero_grad`, `GradScaler.update`) follows at once, or belongs to the next
    iteration as well; the step of another optimizer may take longer. Which optimizers step together
    is learnt from the iterations that are over, and before the first of them told by the gradients
    that a backward has left for others.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._together: dict[int, frozenset[int]] = {}  # the optimizers of the last iteration, by the first that stepped in it

    def ended(self, iteration: Iteration) -> None:
        """Remember which optimizers stepped in it."""
        first = iteration.steps[0].optimizer
        if len(iteration.steps) > 1 or len(self._together.get(first, ())) != 1:
            self._together[first] = frozenset(step.optimizer for step in iteration.steps)

    def is_over(self, lane: Lane, now_s: float) -> bool:
        """Whether nothing more is expected of the iteration of this lane."""
        quiet_s = now_s - lane.now_s
        if quiet_s < QUIET_S or not lane.iteration.steps or self._is_inside_a_call(lane):
            return False
        return quiet_s >= PATIENCE_S or not self._awaits_a_step(lane)

    def _is_inside_a_call(self, lane: Lane) -> bool:
        if lane.loss is not None or lane.clipping.ids:
            return True
        return any(window.stepping and window.lane is lane for window in self._registry)

    def _awaits_a_step(self, lane: Lane) -> bool:
        stepped = {step.optimizer for step in lane.iteration.steps}
        usual = self._together.get(lane.iteration.steps[0].optimizer)
        if usual is not None:
            return not usual <= stepped
        mine = [window for window in self._registry if window.lane is None or window.lane is lane]
        return any(window.num_backwards and window.index not in stepped for window in mine)
