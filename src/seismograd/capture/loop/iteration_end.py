"""Decide whether an iteration that has made its step is over, although nothing has begun the next
one.

This is the case before an evaluation, a checkpoint or a crash.
"""

from __future__ import annotations

from seismograd.capture.loop.iteration import Iteration
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.names.optimizer_registry import OptimizerRegistry

QUIET_S = 0.5  # since the last intercepted call
PATIENCE_S = 10.0  # the same, while the step of another optimizer is still expected


class Endings:
    """Decides for all threads.

    Whatever follows a step (`zero_grad`, `GradScaler.update`) follows at once, or belongs to the
    next iteration; the step of another optimizer may take longer. Which optimizers step together is
    learned from finished iterations, and before the first of them inferred from gradients that a
    backward has left for other optimizers.
    """

    def __init__(self, registry: OptimizerRegistry) -> None:
        self._registry = registry
        # the optimizers of the last iteration, by the first that stepped in it
        self.alone: set[int] = set()  # of these, that which stepped without another
        self._together: dict[int, frozenset[int]] = {}

    def ended(self, iteration: Iteration) -> None:
        """Remember which optimizers stepped in a finished iteration."""
        first = iteration.steps[0].optimizer
        self._together[first] = frozenset(step.optimizer for step in iteration.steps)
        if len(self._together[first]) == 1:
            self.alone.add(first)
        else:
            self.alone.discard(first)

    def is_over(self, thread_state: ThreadState, now_s: float) -> bool:
        """Return whether nothing more is expected of this thread's iteration."""
        idle_s = now_s - thread_state.now_s
        if (
            idle_s < QUIET_S
            or not thread_state.iteration.steps
            or self._is_inside_a_call(thread_state)
        ):
            return False
        return idle_s >= PATIENCE_S or not self._awaits_a_step(thread_state)

    def _is_inside_a_call(self, thread_state: ThreadState) -> bool:
        if thread_state.loss is not None or thread_state.clipping.ids:
            return True
        return any(
            window.stepping and window.thread_state is thread_state for window in self._registry
        )

    def _awaits_a_step(self, thread_state: ThreadState) -> bool:
        stepped = {step.optimizer for step in thread_state.iteration.steps}
        usual = self._together.get(thread_state.iteration.steps[0].optimizer)
        if usual is not None:
            return not usual <= stepped
        mine = [
            window
            for window in self._registry
            if window.thread_state is None or window.thread_state is thread_state
        ]
        return any(window.num_backwards and window.index not in stepped for window in mine)
