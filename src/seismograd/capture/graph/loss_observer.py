"""Inspect the graph of a loss before its backward: what it averages over, whether its forward pass
is a new one; and ask where a non-finite value came from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from seismograd.capture.birth.birth_observer import BirthObserver
from seismograd.capture.graph.loss_reduction import mean_of, reduction_of, shape_reduced
from seismograd.capture.graph.shared_forward import SharedForward
from seismograd.capture.graph.traversal import LEAF, last_number
from seismograd.capture.loop.event_log import EventLog
from seismograd.capture.loop.iteration import CapturedEvent
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.schema import SAMPLE_EVERY, EventFlag

FIRST = 32  # backwards whose loss is always inspected


class LossObserver:
    """Inspects every loss where a step has several backwards; elsewhere the first ones, then every
    tenth, and any that is over another number of samples than the last one of its line, such as
    that of the short batch at the end of an epoch.
    """

    def __init__(self, log: EventLog, births: BirthObserver) -> None:
        self._log, self._births = log, births
        self._sharing = SharedForward()
        self._num = 0
        self._shapes: dict[int, tuple[int, ...]] = {}  # by call site

    def look(
        self,
        thread_state: ThreadState,
        captured: CapturedEvent,
        listed: tuple[Any, ...],
        tops: list[Any],
        windows: Sequence[OptimizerWindow],
        extras: bool,
    ) -> None:
        """Add what the graph shows to the event of a backward. `windows` are those that it may
        concern.
        """
        self._num += 1
        has_several = False
        for window in windows:
            if window.losses or window.num_backwards_before > 1:
                has_several = True
        has_changed = False
        if extras and len(listed) == 1:
            # another shape than that which the last loss at this line was reduced from
            shape = shape_reduced(listed[0])
            if shape != self._shapes.get(captured.site):
                has_changed = True
                self._shapes[captured.site] = shape
        if (
            extras
            and len(listed) == 1
            and (has_changed or self._num <= FIRST or self._num % SAMPLE_EVERY == 0 or has_several)
        ):
            self.reduce(captured, listed[0])
        before = -1
        for window in windows:
            if window.stepping:
                captured.flags |= window.flags_within()
            if window.losses and not window.evaluates_again:
                before = max(before, window.last_operation)
        if before >= 0 and self._sharing.shared(captured.site, tops, before):
            captured.flags |= EventFlag.SHARED
        number = tops[0]._sequence_nr() if len(tops) == 1 and tops[0] is not None else LEAF
        thread_state.last_operation = last_number(tops) if number == LEAF else number
        known = captured.value.known and captured.value.tensor is None
        if known and not math.isfinite(captured.value.value) and tops[0] is not None:
            captured.detail = int(self._births.of_loss(tops[0]))

    def reduce(self, captured: CapturedEvent, loss: Any) -> None:
        """Add to the event of a backward how its loss was reduced."""
        captured.reduction = mean_of(loss)
        if captured.reduction is None:
            captured.reduction = reduction_of(loss)
            if captured.reduction is not None:
                self._log.wait_for(
                    [*captured.reduction.count.pending(), *captured.reduction.weight.pending()]
                )
