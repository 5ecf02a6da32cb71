"""The window of one optimizer: what was added to its gradients since its last step, and whether
they had been cleared.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass

import torch

from seismograd.capture.loop.iteration import CapturedEvent, GradientReading, OptimizerStep
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.probes.per_loss_gradients import PerLossGradients
from seismograd.capture.probes.update_probe import UpdateProbe
from seismograd.capture.rows.applied_norm import AppliedClip
from seismograd.schema import EventFlag, IntArray
from seismograd.tensors.device_scalars import Scalar
from seismograd.tensors.dtensor import held_part
from seismograd.tensors.freed_memory import is_readable
from seismograd.tensors.isolation import without_user_modes

MAX_LOOKED_AT = 64  # parameters of an optimizer whose gradients are inspected in every backward

# arithmetic on flags takes a microsecond, on numbers none
CLOSURE, AGAIN = int(EventFlag.CLOSURE), int(EventFlag.AGAIN)

# which tensor the gradient is and how often it was changed in place; `None`: no gradient
Signature = tuple[int, int] | None


def is_zero(parameter: torch.Tensor) -> bool:
    """Return whether the gradient is all zeros."""
    grad = parameter.grad
    if grad is None:
        return True
    with without_user_modes():
        held = held_part(grad)
        return is_readable(held) and not bool(torch.any(held))


class ClearingTracker:
    """Follows up to `MAX_LOOKED_AT` gradients through the loop: was a used gradient cleared before
    the next backward added to it?

    It inspects the gradients themselves, so it does not matter how they are cleared. `carried` says
    for each followed parameter whether its gradient still holds what an earlier step used.
    """

    def __init__(self, parameters: list[torch.Tensor]) -> None:
        stride = max(1, -(-len(parameters) // MAX_LOOKED_AT))
        self.parameters = [weakref.ref(p) for p in parameters[::stride]]
        self._none: list[Signature] = [None] * len(self.parameters)
        self._not_carried = [False] * len(self.parameters)  # shared, never written to
        self.carried = self._not_carried
        self._used = False
        self._last = self._before = self._none

    def _signatures(self) -> list[Signature]:
        return [
            None if (p := ref()) is None or (g := p.grad) is None else (id(g), g._version)
            for ref in self.parameters
        ]

    def follows_any(self) -> bool:
        """Return whether any of the followed parameters is being trained: they may have been chosen
        while others were frozen.
        """
        return any((p := ref()) is not None and p.requires_grad for ref in self.parameters)

    def backward_begins(self, looks_for_loss: bool = False) -> bool:
        """Note that used gradients still present will be added to, and return whether unused
        gradients were cleared since the last intercepted call; only checks that if
        `looks_for_loss`.
        """
        now = self._signatures()
        lost = (
            looks_for_loss
            and not self._used
            and now != self._last
            and self._last != self._none
            and self._is_cleared(now)
        )
        if (self._used and now != self._none) or True in self.carried:
            self.carried = [self._is_carried(i, now[i]) for i in range(len(now))]
        self._before = now
        return lost

    def _is_cleared(self, now: list[Signature]) -> bool:
        return now == self._none or all(
            is_zero(p) for ref in self.parameters if (p := ref()) is not None
        )

    def _is_carried(self, i: int, mark: Signature) -> bool:
        """Return whether a gradient, now with this mark, holds what an earlier step used."""
        if not (self._used or self.carried[i]):
            return False
        last, parameter = self._last[i], self.parameters[i]()
        if mark is None or last is None or parameter is None or mark[0] != last[0]:
            return False
        # changed in place: by zeroing it, or by something that keeps it
        return mark == last or not is_zero(parameter)

    def changed(self) -> list[torch.Tensor]:
        """Return the followed parameters whose gradients a call that we did not intercept has
        changed.
        """
        return [
            p
            for ref, mark, last in zip(self.parameters, self._signatures(), self._last, strict=True)
            if mark is not None and mark != last and (p := ref()) is not None
        ]

    def backward_ends(self) -> bool:
        """Return whether the backward added to any of these gradients."""
        now = self._signatures()
        touched = now != self._before
        if touched:
            self._used = False
            self._last = now
        self._before = now
        return touched

    def added(self) -> None:
        """Note that a backward has added to these gradients."""
        self._used = False
        self._last = self._before = self._signatures()

    def cleared(self) -> None:
        """Note that the optimizer's own `zero_grad` cleared them all."""
        self.carried = self._not_carried
        self._used = False
        self._last = self._signatures()

    def at_step(self) -> tuple[bool, bool]:
        """Return whether a step now would use no gradient, or the very one that the previous step
        used; and whether a call that we did not intercept has changed a gradient.
        """
        now = self._signatures()
        same = now == self._last
        return (self._used and same) or now == self._none, not same

    def mark_changed(self) -> None:
        """Note that an intercepted call (a clip, an unscale) has changed the gradients."""
        self._last = self._signatures()

    def looked_away(self) -> None:
        """Note that a call was not handled to its end: the current gradients are neither known to
        be used nor to be changed.
        """
        self.carried = self._not_carried
        self._used = False
        self._last = self._before = self._signatures()

    def was_used(self) -> bool:
        """Return whether a step has used the current gradients and no backward has added to them
        since.
        """
        return self._used

    def empty(self) -> bool:
        """Return whether there was no gradient at the last inspection."""
        return self._last == self._none

    def carried_over(self) -> list[bool]:
        """Return for each followed parameter whether its gradient holds both what an earlier step
        used and something newer.
        """
        return self._not_carried if self._used else self.carried

    def step_ends(self) -> None:
        """Note that the step has used the current gradients."""
        self.carried = self._not_carried
        self._used = True
        self._last = self._signatures()


@dataclass(frozen=True, slots=True)
class ReadingPlan:
    """Where an optimizer's gradients go: a column for each of its parameters, and the other
    parameters measured with them.

    `numels` counts the scalars that this process holds of each; a complex one counts twice.
    `frozen`: one of the columns was not trainable.
    """

    version: int  # of the parameter table
    num_gone: int
    ids: list[int]  # of the parameters
    columns: tuple[int, ...]
    positions: IntArray  # (n,) the same
    numels: IntArray  # (n,)
    whole: bool  # they are all columns, in their order
    frozen: bool
    unowned: list[tuple[weakref.ref[torch.Tensor], int]]


class OptimizerWindow:
    """What is known of one optimizer between two of its steps.

    `held` returns its parameters in its order; it refers to them weakly, because the window must
    not keep a model alive.
    """

    def __init__(self, held: Callable[[], list[torch.Tensor]], index: int, name: str) -> None:
        self.held = held
        self.index = index
        # in `touched` of an event; only the first 64 have one
        self.bit = 1 << index if index < 64 else 0
        self.name = name
        # no torch optimizer holds these parameters, and nothing announces their updates
        self.by_hand = False
        self.num_steps = 0
        self.num_made = 1  # objects, one in place of the other
        self.num_backwards_before = 0  # of the previous window
        self.plan: ReadingPlan | None = None
        self.clearing = ClearingTracker([])
        # read after every backward: an unknown call has changed gradients before
        self.eager = False
        # the thread that trains it, once known
        self.thread_state: ThreadState | None = None
        self.steps_before_scaler = 0
        self.was_stepped = False  # or a GradScaler skipped its step
        self.steps_within = 0  # steps of its base classes that run within its own
        self.num_parameters = 0  # time of the last reading
        self.probe = UpdateProbe()
        self.per_loss = PerLossGradients()
        # heard in the whole run by the time of the last reading
        self.num_collectives = 0
        self.last: GradientReading | None = None  # what its last step used
        self.restart()

    def restart(self) -> None:
        """Begin a new window."""
        self.ready: GradientReading | None = None
        self.num_backwards = 0
        # backwards since its last step, including those whose gradients were cleared
        self.num_heard = 0
        self.losses: list[Scalar] = []
        self.grad_scale: Scalar | None = None  # what the gradients are still multiplied by
        self.loss_scale: Scalar | None = None  # what the loss was multiplied by
        self.clips: list[AppliedClip] = []
        # read after a clip within the step, where the clips do not show what was consumed
        self.applied: GradientReading | None = None
        # columns, as they were when the step evaluated the loss
        self.carried: IntArray | None = None
        self.stepping = False
        self.step: OptimizerStep | None = None  # the running step, and its event
        self.step_heard: CapturedEvent | None = None
        self.closure = False  # the step was given a closure
        self.evaluated = False  # the closure has called backward
        # gradients were cleared within the step: before it evaluates the loss, or after it has used
        # them
        self.cleared_within = False
        # it has cleared a backward's gradients: the next is a later evaluation, as in LBFGS
        self.evaluates_again = False
        self.per_loss.clear()
        # number of the last operation of the graphs that were backpropagated into the window
        self.last_operation = -1

    def backward_ended(self, loss: Scalar, scale: Scalar | None) -> None:
        """Note that a backward added to these gradients, so an earlier reading no longer describes
        them.
        """
        self.num_backwards += 1
        self.num_heard += 1
        self.losses.append(loss)
        self.grad_scale = self.loss_scale = scale
        self.ready = self.applied = None
        self.clips = []

    def cleared(self) -> None:
        """Note that the accumulated gradients are gone. Within a step an earlier reading, or that
        of its first evaluation, stands.
        """
        self.thrown_away()
        self.clearing.cleared()

    def thrown_away(self) -> None:
        """Note that the accumulated gradients are gone, however that happened."""
        if self.stepping:
            self.cleared_within = True
            self.evaluates_again = self.evaluated
            return
        self._forget()

    def evaluation_begins(self) -> None:
        """Note that the running step calls backward."""
        if self.cleared_within and not self.evaluated:
            self._forget()

    def step_raised(self) -> None:
        """Note that the running step raised; the gradients it was given may still be there."""
        self.stepping = self.closure = self.evaluated = self.cleared_within = (
            self.evaluates_again
        ) = False
        self.step = self.step_heard = None

    def flags_within(self) -> int:
        """Return the flags of an event of this window that depend on whether a step is running."""
        return 0 if not self.stepping else CLOSURE | AGAIN if self.evaluates_again else CLOSURE

    def num_unused(self) -> int:
        """Return how many backwards no step has used, not even that of another optimizer that they
        added to.
        """
        return sum(not loss.used for loss in self.losses)

    def were_used(self) -> None:
        """Note that a step has used these backwards, or skipped them because of their values."""
        for loss in self.losses:
            loss.used = True

    def _forget(self) -> None:
        self.losses = []
        self.num_backwards = 0
        self.ready = self.applied = None
        self.clips = []
        self.per_loss.clear()

    def step_ended(self) -> None:
        """Begin a new window after the step has used this one."""
        self.num_steps += 1
        self.was_stepped = True
        self.num_backwards_before = self.num_heard
        self.were_used()
        self.last = self.ready
        self.clearing.step_ends()
        self.restart()

    def step_left_out(self) -> None:
        """Note that the step that had begun is not made."""
        self.step_raised()
        self.steps_within = 0
        self.probe.forget()
