"""Note steps on gradients that the script has made of those of several backwards, each of which was
cleared, as PCGrad does: the loss of the last one is not that of the step.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.names.optimizer_registry import OptimizerRegistry
from seismograd.schema import EventKind, FactKind, LossDoubt

BACKWARD = int(EventKind.BACKWARD)


@dataclass(slots=True)
class AssignedGradients:
    """Looks at steps whose gradients an unknown call has changed after one of several backwards was
    cleared; reports each optimizer once.
    """

    facts: Facts
    registry: OptimizerRegistry
    _reported: set[int] = field(default_factory=set[int])

    def step_begins(self, thread_state: ThreadState, window: OptimizerWindow) -> None:
        """Such a step begins."""
        if window.index in self._reported or self._is_within(window):
            return
        # in this iteration: a generator's backward reaches the discriminator too, in one of its own
        heard = sum(
            event.kind == BACKWARD and event.touched & window.bit != 0
            for event in thread_state.iteration.events
        )
        if heard <= window.num_backwards or not _are_others(window):
            return
        self._reported.add(window.index)
        self.facts.report(
            FactKind.LOSS_DOUBTFUL,
            site=thread_state.iteration.events[-1].site,
            optimizer=window.index,
            reason=LossDoubt.ASSIGNED,
        )

    def _is_within(self, window: OptimizerWindow) -> bool:
        """Return whether the step of another optimizer runs, which evaluates one loss twice."""
        return any(each.stepping and each is not window for each in self.registry.windows)


def _are_others(window: OptimizerWindow) -> bool:
    """Return whether all gradients are other tensors than the last backward has left: what is
    scaled or clipped in place is not.
    """
    pairs = zip(window.clearing.marks(), window.clearing.last, strict=True)
    found = [last is None or now[0] != last[0] for now, last in pairs if now is not None]
    return bool(found) and all(found)
