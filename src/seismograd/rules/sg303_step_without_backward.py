"""SG303 step-without-backward."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.block_rows import integers
from seismograd.analysis.repeated_fault import FaultSteps, RepeatedFault
from seismograd.analysis.script_names import at_line, line_of, optimizer_name
from seismograd.analysis.shared_block import SharedBlock, SharedReaders
from seismograd.analysis.windows import StepWindow, WindowReader
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import (
    EventFlag,
    EventKind,
    Evidence,
    Finding,
    RowBatch,
    State,
    StepFlag,
)


@final
@dataclass
class StepWithoutBackward(Rule):
    """A step is made without a new gradient: on the one that the step before has already used, or
    on none.

    What it finds
        Calls of `step` with no backward pass since the step before. If the gradients were not
        cleared either, the optimizer applies the same ones once more. If they were, it finds
        nothing to do.

    Why it hurts
        A gradient says where to go from the weights that it was computed with. Used again, it moves
        the weights on in a direction that may no longer lead down, and a batch that was meant to be
        left out is replaced by a second copy of an older one. Momentum and the averages of Adam
        take in the same gradient several times.

    How it decides
        A gradient that is used again is reported at its first step: that the weights moved is
        beyond doubt. Steps on no gradient at all do little harm, so they count when {in_a_row} in a
        row are such, or {scattered} that are at least {share:.0%} of all, and only when no backward
        pass was made in between. Steps whose closure computes a new gradient, and steps that
        `GradScaler` left out, do not count.

    False alarms
        A method that applies one gradient several times on purpose. The step after the last window
        of an epoch, made whether or not anything was left over, finds no gradient when nothing was,
        and does not count. A step before which the gradients were cleared is SG302, and an
        optimizer whose parameters no loss reaches is SG402.

    What to try
        - Put `step` under the same condition as `backward`, so that a batch that is left out is
          left out of both.
        - Look for a second call of `step`: in a helper, in a callback, or beside
          `scaler.step(optimizer)`.
        - Clear the gradients right after each step; then a step too many changes little.

    References
        - PyTorch documentation, torch.optim: taking an optimization step.
    """

    code: ClassVar[str] = "SG303"
    name: ClassVar[str] = "step-without-backward"
    severity: ClassVar[str] = "error"
    needs: ClassVar[tuple[str, ...]] = ()
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
    share: float = 0.25  # of the optimizer's steps
    min_evaluated: int = 2  # steps

    _windows: WindowReader = field(default_factory=WindowReader, init=False, repr=False)
    _again: RepeatedFault = field(
        default_factory=lambda: RepeatedFault(1, 1, 0.0), init=False, repr=False
    )
    _empty: RepeatedFault = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._empty = RepeatedFault(self.in_a_row, self.scattered, self.share)

    def read_with(self, readers: SharedReaders) -> None:
        self._windows = readers.windows

    def observe(self, block: SharedBlock) -> Iterable[Finding]:
        for window in block.read_by(self._windows):
            if not _has_nothing_new(block, window):
                continue
            own = np.array(
                [parameter.optimizer == window.optimizer for parameter in block.parameters],
                np.bool_,
            )
            state = block.state[window.row][own]
            if (state >= State.FINITE).any():
                if window.index and not self._empty.has_found(window.optimizer):
                    self._again.add(
                        window, lambda shown, window=window: self._used_again(block, window, shown)
                    )
            elif not self._again.has_found(window.optimizer) and not _is_in_a_row_with_backwards(
                block, window
            ):
                self._empty.add(
                    window, lambda shown, window=window: self._on_nothing(block, window, shown)
                )
        return [*self._again.take(), *self._empty.take()]

    def shortfall(self) -> Message | None:
        return self._windows.shortfall(self.min_evaluated)

    def _used_again(self, block: RowBatch, window: StepWindow, shown: FaultSteps) -> Finding:
        optimizer, step = optimizer_name(block, window.optimizer), at_line(block, window.step)
        elsewhere = window.step.site != self._windows.first_sites[window.optimizer]
        if elsewhere:
            cause = say(
                "at step {number} {optimizer}.step() at {step} applies a gradient that a step at "
                "another line has already used: there "
                "was no backward in between",
                number=shown.first,
                optimizer=optimizer,
                step=step,
            )
            advice = say("remove this second call of step, or give it a backward pass of its own")
            excerpt = f"# {optimizer}.step()"
        else:
            cause = say(
                "at step {number} {optimizer}.step() at {step} is called without a backward since "
                "the step before, so it applies the old "
                "gradient once more",
                number=shown.first,
                optimizer=optimizer,
                step=step,
            )
            advice = say(
                "call step only when backward was called: put both under the same condition"
            )
            excerpt = (
                f"if use_this_batch:\n    {optimizer}.zero_grad()\n    loss.backward()\n    "
                f"{optimizer}.step()"
            )
        return self._finding(block, window, shown, cause, advice, excerpt)

    def _on_nothing(self, block: RowBatch, window: StepWindow, shown: FaultSteps) -> Finding:
        optimizer = optimizer_name(block, window.optimizer)
        cause = say(
            "since step {number} {optimizer}.step() at {step} finds no gradient: no backward is "
            "called before it, so the weights stay as "
            "they are",
            number=shown.first,
            optimizer=optimizer,
            step=at_line(block, window.step),
        )
        advice = say("call backward on the loss before each step")
        return self._finding(
            block,
            window,
            shown,
            cause,
            advice,
            f"{optimizer}.zero_grad()\nloss.backward()\n{optimizer}.step()",
        )

    def _finding(
        self,
        block: RowBatch,
        window: StepWindow,
        shown: FaultSteps,
        cause: Message,
        advice: Message,
        excerpt: str,
    ) -> Finding:
        return Finding(
            code=self.code,
            name=self.name,
            severity=self.severity,
            optimizer=window.optimizer,
            first_step=shown.first,
            last_step=window.iteration,
            parameters=(),
            evidence=(Evidence("num_backwards", "", shown.first, 0.0, 1.0),),
            cause=cause,
            advice=advice,
            where=line_of(block, window.step),
            excerpt=excerpt,
        )


def _has_nothing_new(block: RowBatch, window: StepWindow) -> bool:
    """Whether no backward has added to these gradients since the step before, nor anything that
    was not heard of.
    """
    # a closure evaluates the loss
    if window.is_closure or window.flags & StepFlag.SKIPPED or window.backwards or window.thrown:
        return False
    # else the row does not say which of its steps it is
    alone = int(block.steps["num_steps"][window.row]) == 1
    return bool(window.flags & StepFlag.NO_BACKWARD) and (
        alone or bool(window.step.flags & (EventFlag.USED | EventFlag.EMPTY))
    )


def _is_in_a_row_with_backwards(block: RowBatch, window: StepWindow) -> bool:
    """Whether there was a backward in the iteration of the step, of something else than its
    gradients.
    """
    mine = integers(block.events, "iteration") == window.iteration
    return bool((mine & (integers(block.events, "kind") == EventKind.BACKWARD)).any())
