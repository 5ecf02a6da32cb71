"""The window of one optimizer: what was added to its gradients since its last step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from seismograd.capture.loop.clearing_tracker import ClearingTracker
from seismograd.capture.loop.handed_gradients import HandedGradients
from seismograd.capture.loop.iteration import CapturedEvent, GradientReading, OptimizerStep
from seismograd.capture.loop.kept_elsewhere import KeptElsewhere
from seismograd.capture.loop.thread_state import ThreadState
from seismograd.capture.probes.per_loss_gradients import PerLossGradients
from seismograd.capture.probes.unstepped_weights import UnsteppedWeights
from seismograd.capture.probes.update_probe import UpdateProbe
from seismograd.capture.rows.applied_norm import AppliedClip
from seismograd.capture.rows.reading_plan import ReadingPlan
from seismograd.capture.rows.zero_partition import ZeroPartition
from seismograd.schema import EventFlag, IntArray
from seismograd.tensors.device_scalars import Scalar

# arithmetic on flags takes a microsecond, on numbers none
CLOSURE, AGAIN = int(EventFlag.CLOSURE), int(EventFlag.AGAIN)


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
        # where the gradients are, if not at the parameters
        self.partition: ZeroPartition | None = None
        self.clearing = ClearingTracker([])
        # once the script has given it gradients that no backward has added to
        self.handed: HandedGradients | None = None
        # read after every backward: an unknown call has changed gradients before
        self.eager = False
        # the thread that trains it, once known
        self.thread_state: ThreadState | None = None
        self.steps_before_scaler = 0
        self.was_stepped = False  # or a GradScaler skipped its step
        self.unstepped = UnsteppedWeights()
        self.steps_within = 0  # steps of its base classes that run within its own
        self.num_parameters = 0  # time of the last reading
        self.probe = UpdateProbe()
        self.per_loss = PerLossGradients()
        # heard in the whole run by the time of the last reading
        self.num_collectives = 0
        self.last: GradientReading | None = None  # what its last step used
        self.step_heard: CapturedEvent | None = None
        self.last_step_site = -1  # of the step before
        self.restart()

    def restart(self) -> None:
        """Begin a new window."""
        if self.step_heard is not None:  # as `_note_step`, without a call in each step
            self.last_step_site = self.step_heard.site
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
        self.is_left_out = False  # the running step: nothing of it is done
        self.step: OptimizerStep | None = None  # the running step, and its event
        self.step_heard = None
        self.closure = False  # the step was given a closure
        self.evaluated = False  # the closure has called backward
        # gradients were cleared within the step: before it evaluates the loss, or after it has used
        # them
        self.cleared_within = False
        # it has cleared a backward's gradients, or changed the weights since: the next is a later
        # evaluation, as in LBFGS
        self.evaluates_again = False
        if not self.per_loss.is_clear:
            self.per_loss.clear()
        # number of the last operation of the graphs that were backpropagated into the window
        self.last_operation = -1

    def track_clearing(self) -> None:
        """Start to follow how the gradients are cleared, of those that train; where none does, of
        all, as the script may set them itself.
        """
        held = self.held()
        trained = [p for p in held if p.requires_grad] or held
        self.clearing = (
            ClearingTracker(trained)
            if self.partition is None
            else KeptElsewhere(trained, self.partition.was_reached)
        )

    def look_at_others(self) -> None:
        """Follow other parameters, if any trains, when all the followed ones are frozen. Those
        frozen for a while, like one half of a GAN while the other is trained, stay.
        """
        trained = [p for p in self.held() if p.requires_grad]
        if trained:
            self.clearing = ClearingTracker(trained)

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
        if self.stepping:
            self.thrown_away()
        else:
            self.forget()
        self.clearing.cleared()

    def thrown_away(self) -> None:
        """Note that the accumulated gradients are gone, however that happened."""
        if self.stepping:
            self.cleared_within = True
            self.evaluates_again = self.evaluated
            return
        self.forget()

    def evaluation_begins(self) -> None:
        """Note that the running step calls backward."""
        if self.cleared_within and not self.evaluated:
            self.forget()

    def step_raised(self) -> None:
        """Note that the running step raised; the gradients it was given may still be there."""
        self.stepping = self.closure = self.evaluated = self.cleared_within = (
            self.evaluates_again
        ) = False
        self._note_step()
        self.step = self.step_heard = None
        self.is_left_out = False

    def _note_step(self) -> None:
        """Note where the step was made that is over now."""
        if self.step_heard is not None:
            self.last_step_site = self.step_heard.site

    def flags_within(self) -> int:
        """Return the flags of an event of this window that depend on whether a step is running."""
        return 0 if not self.stepping else CLOSURE | AGAIN if self.evaluates_again else CLOSURE

    def has_zero_gradients(self) -> bool:
        """Return whether any gradient of its last step was all zeros, as far as its statistics have
        arrived.
        """
        last = self.last
        if (
            last is None
            or last.is_ordinary
            or (last.arrival is not None and not last.arrival.is_done())
        ):
            return False
        # NaN is not zero; `all` itself is Python around this
        return not np.logical_and.reduce(last.values["grad_norm"])

    def num_unused(self) -> int:
        """Return how many backwards no step has used, not even that of another optimizer that they
        added to.
        """
        return sum(not loss.used for loss in self.losses)

    def were_used(self) -> None:
        """Note that a step has used these backwards, or skipped them because of their values."""
        for loss in self.losses:
            loss.used = True

    def forget(self) -> None:
        """Forget the backwards whose gradients are gone."""
        self.losses = []
        self.num_backwards = 0
        self.ready = self.applied = None
        self.clips = []
        if not self.per_loss.is_clear:
            self.per_loss.clear()

    def step_ended(self) -> None:
        """Begin a new window after the step has used this one."""
        self.num_steps += 1
        self.was_stepped = True
        self.num_backwards_before = self.num_heard
        for loss in self.losses:
            loss.used = True
        self.last = self.ready
        self.clearing.step_ends()
        self.restart()

    def step_left_out(self) -> None:
        """Note that the step that had begun is not made."""
        self.step_raised()
        self.steps_within = 0
        self.probe.forget()
