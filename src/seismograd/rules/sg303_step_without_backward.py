"""SG303 step-without-backward."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, final

from seismograd.analysis.repeated_fault import FaultSteps, RepeatedFault
from seismograd.analysis.shared_block import SharedBlock
from seismograd.analysis.step_window import StepWindow
from seismograd.diagnosis.rule import memory
from seismograd.diagnosis.window_rule import WindowRule
from seismograd.i18n import Message, say
from seismograd.schema import EventFlag, EventKind, Evidence, Finding, State, StepFlag


@final
@dataclass
class StepWithoutBackward(WindowRule):
    """A step is taken without a new gradient: it reuses the gradient of the step before, or there
    is none.

    What it finds
        Calls of `step` without a backward pass since the step before. If the gradients were not
        cleared either, the optimizer applies the same ones again. If they were, it has nothing to
        apply.

    Why it hurts
        A gradient gives the direction from the weights with which it was computed. Used again, it
        moves the weights further in a direction that may no longer lower the loss, and a batch that
        was meant to be skipped is replaced by a second copy of an older one. Momentum and the
        moving averages of Adam include the same gradient several times. Steps on nothing train
        nothing.

    How it decides
        A reused gradient is reported at its first step, because the weights have certainly changed.
        Steps without any gradient do little harm, so they are reported only if {in_a_row} in a row
        are like this, or {scattered} that are at least {share:.0%} of all, and only if there was no
        backward pass in between. Where others are trained meanwhile, it takes {stopped} steps in a
        row on nothing, of an optimizer whose parameters had gradients before: then it is a warning,
        and they may be frozen, as a discriminator whose `requires_grad` is not set back to `True`
        after the step of the generator. Steps whose closure computes a new gradient and steps that
        `GradScaler` skipped do not count.

    False alarms
        A method that deliberately applies one gradient several times. A loop may take a step after
        the last window of an epoch whether or not anything is left; if nothing is left, this step
        finds no gradient, and does not count. Parameters that are frozen on purpose from some step
        on are reported if their optimizer still steps. Gradients that were cleared before the step
        are SG302, and an optimizer whose parameters no loss depends on is SG402.

    What to try
        - Put `step` under the same condition as `backward`, so that a skipped batch skips both.
        - Look for a second call of `step`: in a helper function, in a callback, or next to
          `scaler.step(optimizer)`.
        - Set `requires_grad` back to `True` before the loss that trains the parameters is computed.
        - Clear the gradients right after each step; then an extra step changes little.

    References
        - PyTorch documentation, torch.optim: taking an optimization step.
    """

    code: ClassVar[str] = "SG303"
    name: ClassVar[str] = "step-without-backward"
    severity: ClassVar[str] = "error"
    absorbs: ClassVar[tuple[str, ...]] = (
        "SG102",
        "SG103",
        "SG107",
        "SG108",
        "SG109",
        "SG201",
        "SG202",
        "SG402",
    )

    in_a_row: int = 3  # steps on no gradient
    scattered: int = 6  # steps on no gradient
    stopped: int = 50  # steps on no gradient while others are trained
    share: float = 0.25  # of the optimizer's steps
    min_evaluated: int = 2  # steps

    # steps on a gradient that is used again; `_repeated` are those on nothing
    _again: RepeatedFault = memory(lambda: RepeatedFault(1, 1, 0.0))
    _begun_on_nothing: set[int] = memory(set[int])  # optimizers
    _stopped: RepeatedFault = field(init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._stopped = RepeatedFault(self.stopped, 1 << 62, 0.0)

    def observe(self, block: SharedBlock) -> Iterable[Finding]:
        on_nothing = super().observe(block)
        return [*self._again.found.take(), *on_nothing, *self._stopped.found.take()]

    def look(self, window: StepWindow) -> None:
        if not _has_nothing_new(window):
            return
        if (window.states >= State.FINITE).any():
            if window.index and window.optimizer not in self.found:
                self._again.add(window, lambda shown: self._used_again(window, shown))
        elif window.optimizer in self._again.found:
            return
        elif not window.has_event(EventKind.BACKWARD):
            self.at_fault(window, self._on_nothing)
        elif not window.index:
            self._begun_on_nothing.add(window.optimizer)
        elif window.optimizer not in self._begun_on_nothing:
            self._stopped.add(window, lambda shown: self._no_longer(window, shown))

    def shortfall(self) -> Message | None:
        return self._windows.shortfall(self.min_evaluated)

    def _used_again(self, window: StepWindow, shown: FaultSteps) -> Finding:
        optimizer, step = window.name, window.at(window.step)
        if window.step.site != self._windows.first_sites[window.optimizer]:
            cause = say(
                "at step {number} {optimizer}.step() at {step} applies a gradient that a step at "
                "another line has already used: there "
                "was no backward in between",
                number=shown.first,
                optimizer=optimizer,
                step=step,
            )
            advice = say("remove this second call of step, or give it its own backward pass")
            excerpt = f"# {optimizer}.step()"
        else:
            cause = say(
                "at step {number} {optimizer}.step() at {step} is called without a backward since "
                "the step before, so it applies the old gradient again",
                number=shown.first,
                optimizer=optimizer,
                step=step,
            )
            advice = say("call step only if backward was called: put both under the same condition")
            excerpt = (
                f"if use_this_batch:\n    {optimizer}.zero_grad()\n    loss.backward()\n    "
                f"{optimizer}.step()"
            )
        evidence = Evidence("num_backwards", "", shown.first, 0.0, 1.0)
        return self.finding_of_window(
            window, cause, advice, excerpt, evidence=(evidence,), since=shown.first
        )

    def _on_nothing(self, window: StepWindow, shown: FaultSteps) -> Finding:
        optimizer = window.name
        is_in_loop = re.fullmatch(r"\w+\.step\(\)", window.text(window.step, "step()"))
        items = re.sub(r"\[\d+\]$", "", optimizer) if is_in_loop else optimizer
        return self.finding_of_window(
            window,
            say(
                "since step {number} {optimizer}.step() at {step} finds no gradient: no backward "
                "is called before it, so the weights stay unchanged",
                number=shown.first,
                optimizer=optimizer,
                step=window.at(window.step),
            ),
            say("call backward on the loss before each step"),
            f"{optimizer}.zero_grad()\nloss.backward()\n{optimizer}.step()"
            if items == optimizer
            else f"loss.backward()\nfor optimizer in {items}:\n    optimizer.step()",
            evidence=(Evidence("num_backwards", "", shown.first, 0.0, 1.0),),
            since=shown.first,
        )

    def _no_longer(self, window: StepWindow, shown: FaultSteps) -> Finding:
        optimizer = window.name
        return self.finding_of_window(
            window,
            say(
                "since step {number} {optimizer}.step() at {step} finds no gradient, and changes "
                "nothing: no backward reaches any of the parameters that {optimizer} holds, though "
                "they had gradients before",
                number=shown.since,
                optimizer=optimizer,
                step=window.at(window.step),
            ),
            say(
                "if they are to be trained further, set their requires_grad back to True before "
                "the loss of {optimizer} is computed, as after the step of a generator; otherwise "
                "no longer call {optimizer}.step()",
                optimizer=optimizer,
            ),
            "for parameter in discriminator.parameters():\n    parameter.requires_grad_(True)",
            evidence=(Evidence("num_backwards", "", shown.since, 0.0, 1.0),),
            since=shown.since,
            severity="warning",
        )


def _has_nothing_new(window: StepWindow) -> bool:
    """Return whether no backward, nor an unknown call, has changed these gradients since the
    previous step.
    """
    # a closure evaluates the loss
    if window.is_closure or window.flags & StepFlag.SKIPPED or window.backwards or window.thrown:
        return False
    # else the row does not say which of its steps it is
    alone = window.number("num_steps") == 1
    return bool(window.flags & StepFlag.NO_BACKWARD) and (
        alone or bool(window.step.flags & (EventFlag.USED | EventFlag.EMPTY))
    )
