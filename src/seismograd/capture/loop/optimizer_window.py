"""The window of one optimizer: what was added into its gradients since its last step, and
whether they had been cleared.
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

MAX_LOOKED_AT = 64  # parameters of an optimizer whose gradients are looked at in every backward

# arithmetic on flags takes a microsecond, on numbers none
CLOSURE, AGAIN = int(EventFlag.CLOSURE), int(EventFlag.AGAIN)

# which tensor the gradient is and how often it was changed in place; `None`: there is none
Signature = tuple[int, int] | None


def is_zero(parameter: torch.Tensor) -> bool:
    """Whether the gradient holds nothing but zeros."""
    grad = parameter.grad
    if grad is None:
        return True
    with without_user_modes():
        held = held_part(grad)
        return is_readable(held) and not bool(torch.any(held))


class ClearingTracker:
    """Follows up to `MAX_LOOKED_AT` gradients through the loop: was what a step had used cleared
    before the next backward added to it?

    It looks at the gradients themselves, so it does not matter how they are cleared. `carried` says
    for each parameter looked at whether its gradient still holds what an earlier step had used.
    """

    def __init__(self, parameters: list[torch.Tensor]) -> None:
        stride = max(1, -(-len(parameters) // MAX_LOOKED_AT))
        self.parameters = [weakref.ref(p) for p in parameters[::stride]]
        self._none: list[Signature] = [None] * len(self.parameters)
        self._not_carried = [False] * len(self.parameters)  # nobody writes into these two
        self.carried = self._not_carried
        self._used = False
        self._last = self._before = self._none

    def _signatures(self) -> list[Signature]:
        return [
            None if (p := ref()) is None or (g := p.grad) is None else (id(g), g._version)
            for ref in self.parameters
        ]

    def follows_any(self) -> bool:
        """Whether any of the parameters looked at is being trained: others may have been frozen
        when it began.
        """
        return any((p := ref()) is not None and p.requires_grad for ref in self.parameters)

    def backward_begins(self, looks_for_loss: bool = False) -> bool:
        """Anything that was used and is still there will be added to. Whether what backwards have
        added, and no step has used, has been cleared since the last thing that was heard of; it
        only `looks_for_loss` where it is asked to.
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
        """Whether a gradient, now with this mark, holds what an earlier step had used."""
        if not (self._used or self.carried[i]):
            return False
        last, parameter = self._last[i], self.parameters[i]()
        if mark is None or last is None or parameter is None or mark[0] != last[0]:
            return False
        # changed in place: by zeroing it, or by something that keeps it
        return mark == last or not is_zero(parameter)

    def backward_ends(self) -> bool:
        """Whether the backward added to any of these gradients."""
        now = self._signatures()
        touched = now != self._before
        if touched:
            self._used = False
            self._last = now
        self._before = now
        return touched

    def added(self) -> None:
        """A backward has added to these gradients."""
        self._used = False
        self._last = self._before = self._signatures()

    def cleared(self) -> None:
        """The optimizer's own `zero_grad` cleared them all."""
        self.carried = self._not_carried
        self._used = False
        self._last = self._signatures()

    def at_step(self) -> tuple[bool, bool]:
        """Whether a step now would use no gradient, or the very one that the step before had used;
        and whether anything that was not heard of has changed a gradient since the last thing that
        was.
        """
        now = self._signatures()
        same = now == self._last
        return (self._used and same) or now == self._none, not same

    def mark_changed(self) -> None:
        """A change that was heard of (a clip, an unscale) has been made."""
        self._last = self._signatures()

    def looked_away(self) -> None:
        """Something was not heard to its end: what is there now is neither known to be used nor
        to be changed.
        """
        self.carried = self._not_carried
        self._used = False
        self._last = self._before = self._signatures()

    def was_used(self) -> bool:
        """Whether a step has used what is there, and no backward has added to it since."""
        return self._used

    def empty(self) -> bool:
        """Whether there was no gradient when it was last looked at."""
        return self._last == self._none

    def carried_over(self) -> list[bool]:
        """For each parameter looked at: does its gradient hold both what an earlier step had
        used and something newer?
        """
        return self._not_carried if self._used else self.carried

    def step_ends(self) -> None:
        """The step has used what is there."""
        self.carried = self._not_carried
        self._used = True
        self._last = self._signatures()


@dataclass(frozen=True, slots=True)
class ReadingPlan:
    """Where the gradients of an optimizer go: a column for each of its parameters, and what else is
    measured with them.

    `numels` are the scalars that this process holds of each, a complex one being two. `frozen`: one
    of the columns was not trainable.
    """

    version: int  # of the roster
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

    `held` gives its parameters in its order; it holds them weakly, as the window must not keep a
    model alive.
    """

    def __init__(self, held: Callable[[], list[torch.Tensor]], index: int, name: str) -> None:
        self.held = held
        self.index = index
        # in `touched` of an event; only the first 64 have one
        self.bit = 1 << index if index < 64 else 0
        self.name = name
        # no optimizer of torch holds these parameters, and nothing says when they are updated
        self.by_hand = False
        self.num_steps = 0
        self.num_made = 1  # objects, one in place of the other
        self.num_backwards_before = 0  # of the window before
        self.plan: ReadingPlan | None = None
        self.clearing = ClearingTracker([])
        # read after every backward: something unknown has changed gradients before
        self.eager = False
        # the thread that trains it, once that is known
        self.thread_state: ThreadState | None = None
        self.steps_before_scaler = 0
        self.was_stepped = False  # or a GradScaler left its step out
        self.steps_within = 0  # steps of its base classes that run within its own
        self.num_parameters = 0  # when they were last read
        self.probe = UpdateProbe()
        self.per_loss = PerLossGradients()
        self.last: GradientReading | None = None  # what its last step used
        self.restart()

    def restart(self) -> None:
        """Begin a new window."""
        self.ready: GradientReading | None = None
        self.num_backwards = 0
        self.num_heard = 0  # backwards since its last step, also those whose gradients were cleared
        self.losses: list[Scalar] = []
        self.grad_scale: Scalar | None = None  # what the gradients are still multiplied by
        self.loss_scale: Scalar | None = None  # what the loss was multiplied by
        self.clips: list[AppliedClip] = []
        # read after a clip within the step, where the clips do not tell what was consumed
        self.applied: GradientReading | None = None
        # columns, as they were when the step evaluated the loss
        self.carried: IntArray | None = None
        self.stepping = False
        self.step: OptimizerStep | None = None  # the one that is under way, and its event
        self.step_heard: CapturedEvent | None = None
        self.closure = False  # it was given one
        self.evaluated = False  # it has called backward
        # gradients were cleared within it: before it evaluates the loss, or after it has used them
        self.cleared_within = False
        # it has cleared what came of a backward: what comes now is a later evaluation, as of LBFGS
        self.evaluates_again = False
        self.per_loss.clear()
        # number of the last operation of the graphs that were backpropagated into the window
        self.last_operation = -1

    def backward_ended(self, loss: Scalar, scale: Scalar | None) -> None:
        """A backward added into these gradients, so what was read of them before is no longer
        what they are.
        """
        self.num_backwards += 1
        self.num_heard += 1
        self.losses.append(loss)
        self.grad_scale = self.loss_scale = scale
        self.ready = self.applied = None
        self.clips = []

    def cleared(self) -> None:
        """What was accumulated so far is gone. Within a step what was read before, or of its
        first evaluation, stands.
        """
        self.thrown_away()
        self.clearing.cleared()

    def thrown_away(self) -> None:
        """What was accumulated so far is gone, in whatever way."""
        if self.stepping:
            self.cleared_within = True
            self.evaluates_again = self.evaluated
            return
        self._forget()

    def evaluation_begins(self) -> None:
        """The step that is under way calls backward."""
        if self.cleared_within and not self.evaluated:
            self._forget()

    def step_raised(self) -> None:
        """The step that was under way has ended by an exception; what it was given may still be
        there.
        """
        self.stepping = self.closure = self.evaluated = self.cleared_within = (
            self.evaluates_again
        ) = False
        self.step = self.step_heard = None

    def flags_within(self) -> int:
        """What an event of this window has for happening now, within a step or not."""
        return 0 if not self.stepping else CLOSURE | AGAIN if self.evaluates_again else CLOSURE

    def num_unused(self) -> int:
        """How many backwards no step has used, also none of another optimizer that they added
        to.
        """
        return sum(not loss.used for loss in self.losses)

    def were_used(self) -> None:
        """A step has used these backwards, or left them out because of what they were."""
        for loss in self.losses:
            loss.used = True

    def _forget(self) -> None:
        self.losses = []
        self.num_backwards = 0
        self.ready = self.applied = None
        self.clips = []
        self.per_loss.clear()

    def step_ended(self) -> None:
        """The step has used the window; a new one begins."""
        self.num_steps += 1
        self.was_stepped = True
        self.num_backwards_before = self.num_heard
        self.were_used()
        self.last = self.ready
        self.clearing.step_ends()
        self.restart()

    def step_left_out(self) -> None:
        """The step that had begun is not made."""
        self.step_raised()
        self.steps_within = 0
        self.probe.forget()
