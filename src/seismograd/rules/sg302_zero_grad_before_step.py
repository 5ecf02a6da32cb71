"""SG302 zero-grad-before-step."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.framework_advice import OWN_LOOPS
from seismograd.analysis.repeated_fault import FaultSteps
from seismograd.analysis.step_window import DiscardedBackwards, StepWindow, WindowEvent
from seismograd.diagnosis.rule import memory
from seismograd.diagnosis.window_rule import WindowRule
from seismograd.i18n import Message, say
from seismograd.schema import Finding, State, StepFlag


@final
@dataclass
class ZeroGradBeforeStep(WindowRule):
    """Gradients are cleared after backward has computed them and before step can use them.

    What it finds
        Loops in which `zero_grad` comes between `backward` and `step`, so the optimizer has nothing
        to apply. Also gradient accumulation in which it is called for each micro-batch instead of
        once per step, so only the last micro-batch counts.

    Why it hurts
        `backward` writes to `.grad`, and `step` reads from it. Whatever is cleared in between is
        lost: the forward and backward passes were computed for nothing. Plain SGD leaves the
        weights unchanged, and the loss stays where it started, apart from the noise of the batches.
        With `set_to_none=False` the mistake is harder to see: momentum and weight decay still
        change the weights, but the data does not.

    How it decides
        A step counts if backward passes added to the gradients of its optimizer, and all of that
        was cleared again before step was called: by the optimizer, by a module, or by hand. The
        rule reports {in_a_row} such steps in a row, or {scattered} if they are at least {share:.0%}
        of all steps. In gradient accumulation, a step counts if micro-batches from the same line
        were cleared before it, and either their losses are divided by a number of micro-batches or
        there are at least {min_same} of them. If a closure clears what it has computed, a step
        counts if it has not changed the weights.

    False alarms
        Clearing after a loss or a norm that was not finite does not count, because this is how a
        bad batch is skipped. Backward passes that serve another purpose and are cleared
        deliberately (adversarial examples, sharpness-aware minimisation) do not count either:
        another backward pass follows before the step, from another line or with an undivided loss.
        Nor does a step whose gradients the script has assigned itself after the clearing.

    What to try
        - Keep the order `zero_grad`, `backward`, `step`; or `backward`, `step`, `zero_grad`.
        - With gradient accumulation, call `zero_grad` where `step` is called, not where `backward`
          is called.
        - With several optimizers, check which one is cleared: `model.zero_grad()` clears the
          gradients of all parameters of the model.

    References
        - PyTorch documentation, Optimizing model parameters: zero_grad, backward, step.
        - PyTorch documentation, torch.optim.Optimizer.zero_grad.
    """

    code: ClassVar[str] = "SG302"
    name: ClassVar[str] = "zero-grad-before-step"
    severity: ClassVar[str] = "error"
    absorbs: ClassVar[tuple[str, ...]] = (
        "SG101",
        "SG104",
        "SG105",
        "SG106",
        "SG108",
        "SG109",
        "SG301",
        "SG303",
        "SG304",
        "SG308",
        "SG309",
        "SG310",
        "SG402",
    )

    in_a_row: int = 2  # steps
    scattered: int = 4  # steps
    share: float = 0.25  # of the optimizer's steps
    min_same: int = 3  # micro-batches of one line

    _num_undecided: int = memory(int)  # steps that clear what their closure has computed

    def look(self, window: StepWindow) -> None:
        if window.flags & StepFlag.SKIPPED:
            return
        if window.cleared is not None and not _has_moved(window):
            cleared = DiscardedBackwards(window.cleared, window.backwards)
            emptied = replace(window, backwards=(), thrown=(*window.thrown, cleared))
            self.at_fault(emptied, self._emptied)
        elif window.cleared is not None:
            self._num_undecided += 1
        elif _is_emptied(window) or _is_emptied_by_hand(window):
            self.at_fault(window, self._emptied)
        elif self._is_last_only(window):
            self.at_fault(window, self._last_only)

    def shortfall(self) -> Message | None:
        if self._num_undecided >= self.in_a_row:
            return say(
                "gradients are cleared inside step, and it is unknown whether they had been used "
                "before that (steps: {count})",
                count=self._num_undecided,
            )
        return super().shortfall()

    def _is_last_only(self, window: StepWindow) -> bool:
        """Return whether micro-batches of the line that the last one came from were cleared before
        it.
        """
        wasted = window.unused
        if len(window.backwards) != 1 or not wasted:
            return False
        last, num = window.backwards[0], len(wasted) + 1
        if any(each.site != last.site or not math.isfinite(each.value) for each in wasted):
            return False
        return num >= self.min_same or math.isclose(last.total * num, 1.0, rel_tol=0.02)

    def _emptied(self, window: StepWindow, shown: FaultSteps) -> Finding:
        optimizer, step, by = window.name, window.at(window.step), None
        excerpt = f"{window.optimizer_text}.zero_grad()  # before the backward, or after the step"
        if window.thrown:
            by, backward = window.thrown[-1].by, window.thrown[-1].backwards[-1]
            cause = say(
                "zero_grad at {clear} clears what backward at {backward} has just computed, so "
                "{optimizer}.step() at {step} finds no "
                "gradient",
                clear=window.at(by),
                backward=window.at(backward),
                optimizer=optimizer,
                step=step,
            )
            advice, excerpt = _moved(window, by, backward)
        else:
            cause = say(
                "the gradients that backward at {backward} computed were cleared by hand before "
                "{optimizer}.step() at {step} could use "
                "them",
                backward=window.at(window.backwards[-1]),
                optimizer=optimizer,
                step=step,
            )
            advice = say("clear the gradients before the backward pass or after the step")
        num = max(len(window.discarded), len(window.backwards), 1)
        return self.finding_of_window(
            window,
            cause,
            advice,
            excerpt,
            evidence=(window.evidence("cleared_backwards", num, 0.0),),
            at=by,
            since=shown.first,
        )

    def _last_only(self, window: StepWindow, shown: FaultSteps) -> Finding:
        optimizer, by, num = window.name, window.thrown[-1].by, len(window.unused)
        return self.finding_of_window(
            window,
            say(
                "zero_grad at {clear} is called for each micro-batch: {num} of the {all} backward "
                "passes before a step of {optimizer:the} {num:is|are} wasted, and only the last "
                "one counts",
                clear=window.at(by),
                num=num,
                all=num + 1,
                optimizer=optimizer,
            ),
            say("call zero_grad once per step, right after it, not once per micro-batch"),
            f"{window.text(window.step, f'{optimizer}.step()')}\n{_clearing(window, by)}",
            evidence=(window.evidence("cleared_backwards", num, 0.0),),
            at=by,
            since=shown.first,
        )


def _clearing(window: StepWindow, by: WindowEvent) -> str:
    """Return the call that clears, as the script writes it."""
    return window.text(by, f"{window.optimizer_text}.zero_grad()")


def _moved(window: StepWindow, by: WindowEvent, backward: WindowEvent) -> tuple[Message, str]:
    """Return advice and code for a clearing between backward and step."""
    clear, via = _clearing(window, by), window.via(backward)
    if via in OWN_LOOPS:
        return (
            say(
                "remove zero_grad at {clear}: {library} clears the gradients itself",
                clear=window.at(by),
                library=via,
            ),
            f"# {clear}",
        )
    advice = say(
        "move zero_grad from {clear} to before the backward pass or after the step",
        clear=window.at(by),
    )
    own = window.text(backward, "backward()")
    is_known = own != "backward()"
    return advice, f"{clear}\n{own}" if is_known else f"{clear}  # before the backward"


def _has_moved(window: StepWindow) -> bool:
    """Return whether the step has changed the weights; true where that was not inspected."""
    if "update_ratio" not in window.block.values:
        return True
    update = window.statistic("update_ratio")
    known = update[~np.isnan(update)]
    return not len(known) or bool((known != 0).any())


def _is_emptied(window: StepWindow) -> bool:
    """Return whether everything computed for this step had been cleared, without a reason to, and
    the script has put nothing in its place.
    """
    if window.flags & StepFlag.CHANGED and bool((window.states == State.FINITE).any()):
        return False
    losses = [each.value for each in window.discarded]
    values = [*losses, *(clip.call.value for clip in window.clips)]
    return not window.backwards and bool(losses) and all(map(math.isfinite, values))


def _is_emptied_by_hand(window: StepWindow) -> bool:
    """Return whether backwards added to the gradients, and nothing was left of them at the step
    although no `zero_grad` was called.
    """
    losses = [each.value for each in window.backwards]
    if not losses or not all(map(math.isfinite, losses)):
        return False
    states = window.states
    if window.flags & StepFlag.NO_BACKWARD:
        return bool(len(states)) and bool((states == State.ABSENT).all())
    there = states >= State.ZERO
    if not window.flags & StepFlag.CHANGED or not there.any() or 0 in losses:
        return False
    if "applied_norm" not in window.block.values or (states == State.NONFINITE).any():
        return False
    return bool((window.statistic("applied_norm")[there] == 0).all())
