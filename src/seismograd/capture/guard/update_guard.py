"""Leave out updates that are not finite or have exploded: on request, because that changes the
training.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from seismograd.capture.events import EventName, Listener
from seismograd.capture.guard.applied_update import AppliedUpdate
from seismograd.capture.guard.same_gradients import SameGradients
from seismograd.capture.guard.step_bypass import Step, StepBypass
from seismograd.capture.guard.update_judge import LONGEST, UpdateJudge
from seismograd.capture.loop.error_guard import ErrorGuard
from seismograd.capture.names.parameter_groups import attribute, held_by
from seismograd.capture.running_step import RunningStep
from seismograd.i18n import Message, say
from seismograd.tensors.cuda_graph import is_capturing

NONFINITE, EXPLODED = "nonfinite", "exploded"


class UpdateGuard(Listener):
    """Attached behind the session, so that the gradients have been read.

    Args:
        running_step: of the session, which has read them.
        errors: keeps failures of ours away from the training.
        report: takes what the user should know of the guard itself.
    """

    def __init__(
        self, running_step: RunningStep, errors: ErrorGuard, report: Callable[[Message], None]
    ) -> None:
        self._running_step, self._errors, self._report = running_step, errors, report
        self._judges: dict[int, UpdateJudge] = {}
        self._bypass, self._same = StepBypass(), SameGradients()
        self._reported: set[str] = set()
        self._overhead_s = 0.0

    def backward_begins(self, tensors: Any) -> None:
        """Note whether the gradients will be the same on all processes."""
        del tensors
        self._errors.call("guard", self._same.backward_begins)

    def step_begins(self, optimizer: Any, closure: bool, compiled: bool) -> None:
        """Judge the update, and leave it out if it would do harm."""
        began_s = time.perf_counter()
        self._errors.call("guard", self._judge_step, optimizer, closure, compiled)
        self._overhead_s += time.perf_counter() - began_s

    def failed(self, event: EventName, error: BaseException) -> None:
        """Note a failure around an event."""
        self._errors.failed(f"guard.{event}", error)

    def abandon(self) -> None:
        """Put back what was exchanged: this is a forked child."""
        self._bypass.restore()

    def take_overhead(self) -> float:
        """Return the seconds spent here since the last call."""
        spent_s, self._overhead_s = self._overhead_s, 0.0
        return spent_s

    def _judge_step(self, optimizer: torch.optim.Optimizer, closure: bool, compiled: bool) -> None:
        self._bypass.restore()
        evaluates = closure and self._running_step.evaluates_first(optimizer)
        update = None if evaluates else self._running_step.update_at_hand(optimizer)
        if (update is None and not evaluates) or self._is_helpless(optimizer, compiled):
            return
        if evaluates:
            held = held_by(optimizer)
            versions = [p._version for p in held]

            def is_harmful() -> bool:
                # Weights that the step has moved already would stay where they are.
                if [p._version for p in held] != versions:
                    return False
                found = self._running_step.update_at_hand(optimizer)
                return found is not None and self._leaves_out(optimizer, found)

            self._bypass.arrange(optimizer, self._evaluated(is_harmful))
        elif update is not None and self._leaves_out(optimizer, update):
            self._bypass.arrange(optimizer, _nothing)

    def _evaluated(self, is_harmful: Callable[[], bool]) -> Callable[[Step, Any, Any], Any]:
        """Return what runs in place of a step that evaluates its closure: the step, which ends
        after the first evaluation if that is harmful.
        """

        def instead(original: Step, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            closure: Any = kwargs.get("closure", args[1] if len(args) > 1 else None)
            is_first = True

            def evaluate() -> Any:
                nonlocal is_first
                loss = closure()
                if is_first:
                    is_first, began_s = False, time.perf_counter()
                    is_bad = self._errors.call("guard", is_harmful)
                    self._overhead_s += time.perf_counter() - began_s
                    if is_bad:
                        raise _LeftOut(evaluate, loss)
                return loss

            given: list[Any] = list(args)
            if "closure" in kwargs:
                kwargs = {**kwargs, "closure": evaluate}
            else:
                given[1] = evaluate
            try:
                return original(*given, **kwargs)
            except _LeftOut as left:
                if left.evaluate is not evaluate:
                    raise
                return left.loss

        return instead

    def _leaves_out(self, optimizer: torch.optim.Optimizer, update: AppliedUpdate) -> bool:
        """Record that an update is left out, if it is harmful; return whether it is."""
        if update.num_nonfinite:
            # A scaler has told the optimizer, which looks for itself.
            if attribute(optimizer, "found_inf") is not None:
                return False
            self._running_step.leave_out_update(optimizer, NONFINITE, update.norm, float("nan"))
            return True
        judge = self._judges.setdefault(id(optimizer), UpdateJudge())
        usual = judge.usual(update.norm)
        if usual is None:
            return False
        if judge.num_in_a_row > LONGEST:
            judge.accept()
            self._report(
                say(
                    "the guard let an update pass though it was {times:.3g} times its usual size: "
                    "{number} in a row were as large",
                    times=update.norm / usual,
                    number=LONGEST + 1,
                )
            )
            return False
        self._running_step.leave_out_update(optimizer, EXPLODED, update.norm, usual)
        return True

    def _is_helpless(self, optimizer: torch.optim.Optimizer, compiled: bool) -> bool:
        """Return whether updates of this optimizer cannot be left out, and say why once."""
        name = type(optimizer).__name__
        if compiled or is_capturing():
            self._tell_once(
                say("the guard leaves out no update of {name}: its step is compiled", name=name)
            )
            return True
        if not self._same.hold(optimizer, held_by(optimizer)):
            self._tell_once(
                say(
                    "the guard leaves out no update of {name}: the processes could not decide "
                    "alike, because DistributedDataParallel does not average its gradients over "
                    "all of them",
                    name=name,
                )
            )
            return True
        if not self._bypass.is_possible(optimizer):
            self._tell_once(
                say("the guard leaves out no update of {name}: it has no step of torch", name=name)
            )
            return True
        return False

    def _tell_once(self, message: Message) -> None:
        text = message.render()
        if text not in self._reported:
            self._reported.add(text)
            self._report(message)


class _LeftOut(BaseException):
    """Leaves a step after its first evaluation; passes `except Exception` of an optimizer."""

    def __init__(self, evaluate: Callable[[], Any], loss: Any) -> None:
        super().__init__()
        self.evaluate, self.loss = evaluate, loss


def _nothing(original: Step, args: Any, kwargs: Any) -> None:
    """Do nothing in place of a step."""
    del original, args, kwargs
