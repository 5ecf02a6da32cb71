"""SG307 accumulation-not-scaled."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.framework_advice import UNDIVIDED, framework_advice
from seismograd.analysis.micro_batches import MicroBatches
from seismograd.analysis.repeated_fault import FaultSteps
from seismograd.analysis.step_window import StepWindow, WindowEvent
from seismograd.diagnosis.rule import per_optimizer
from seismograd.diagnosis.window_rule import WindowRule
from seismograd.i18n import Values, say
from seismograd.schema import EventFlag, Finding, StepFlag

MAX_WINDOWS = 16  # whose losses are remembered


@final
@dataclass
class AccumulationNotScaled(WindowRule):
    """The mean losses of several micro-batches are added up without dividing by their number.

    What it finds
        Gradient accumulation in which each micro-batch is backpropagated with its full mean loss.
        The gradient of the step is then the sum of the gradients of the micro-batches, not their
        mean.

    Why it hurts
        With k micro-batches the gradient is k times as large as that of one large batch. With SGD,
        this is equivalent to a learning rate that is k times as high, and changing the number of
        micro-batches changes it again. Adam hides the factor, but clipping, weight decay and its
        epsilon are still affected. Logged gradient norms cannot be compared between runs.

    How it decides
        The graph of each loss shows how many samples it is a mean over and what it is divided by. A
        step counts if two or more backward passes at the same line each have a total weight of one
        (within {tolerance:.0%}) and the gradient was not divided afterwards. The rule reports
        {in_a_row} such steps in a row. Losses from the same forward pass are separate losses, which
        is fine; so are sums over samples. If the losses at each position in the window stay at
        their own levels, the largest at least {min_ratio:g} times the smallest and
        {min_distinctness:g} times as distinct as they scatter, they are taken for different tasks.
        If the graph does not show the weight, or a micro-batch is a single sample, the finding is
        info, not a warning.

    False alarms
        This is no problem when the learning rate was chosen for the summed gradient, or when a hook
        on the parameters does the division, which the graph of the loss does not show.

    What to try
        - Divide the loss: `(loss / num_micro_batches).backward()`.
        - If micro-batches differ in size, use `reduction="sum"` and divide by the number of samples
          or tokens in the whole accumulation window.
        - With several optimizers or with `accelerate`, make sure that the division happens in one
          place only.

    References
        - Hugging Face, Fixing gradient accumulation (2024); huggingface/transformers#34191.
        - PyTorch documentation, Automatic mixed precision examples: gradient accumulation.
    """

    code: ClassVar[str] = "SG307"
    name: ClassVar[str] = "accumulation-not-scaled"
    severity: ClassVar[str] = "warning"
    absorbs: ClassVar[tuple[str, ...]] = (
        "SG102",
        "SG103",
        "SG104",
        "SG107",
        "SG201",
        "SG202",
        "SG309",
        "SG501",
    )

    in_a_row: int = 3  # steps
    tolerance: float = 0.05
    min_ratio: float = 2.0  # of the mean losses of two places
    min_distinctness: float = 10.0  # an F statistic

    _losses: dict[int, deque[list[float]]] = per_optimizer(lambda: deque(maxlen=MAX_WINDOWS))

    def look(self, window: StepWindow) -> None:
        micro_batches = MicroBatches.of(window)
        if window.flags & (StepFlag.SKIPPED | StepFlag.NO_BACKWARD):
            return
        if not self._is_undivided(window, micro_batches):
            return
        losses = self._losses[window.optimizer]
        losses.append(micro_batches.losses)
        if window.optimizer in self.found or not self._are_different_tasks(losses):
            self.at_fault(window, self._finding, micro_batches)

    def _is_undivided(self, window: StepWindow, micro_batches: MicroBatches) -> bool:
        """Return whether these are several means, each of which counts in full."""
        num = len(micro_batches)
        if num < 2 or (num == 2 and self._windows.several):
            return False
        if any(micro_batches.have(EventFlag.SUMMED)):
            return False
        if not all(map(self._counts_in_full, micro_batches.backwards)):
            return False
        ready, applied = window.number("grad_norm"), window.number("applied_norm")
        is_divided = ready > 0 and math.isclose(applied * num, ready, rel_tol=self.tolerance)
        return not (window.flags & StepFlag.CHANGED and is_divided)

    def _counts_in_full(self, backward: WindowEvent) -> bool:
        if math.isnan(backward.total):
            return not backward.flags & EventFlag.RESCALED
        return math.isclose(backward.total, 1.0, rel_tol=self.tolerance)

    def _are_different_tasks(self, losses: Sequence[Sequence[float]]) -> bool:
        """Return whether the losses of each position in the window have a level of their own: a
        two-way analysis of variance.
        """
        alike = [each for each in losses if len(each) == len(losses[-1])]
        table = np.array(alike, np.float64)  # (windows, micro-batches)
        if len(table) < 2 or not np.isfinite(table).all():
            return False
        levels = np.abs(table.mean(axis=0))
        if levels.max() < self.min_ratio * levels.min():
            return False
        positions = table.mean(axis=0) - table.mean()
        rest = table - table.mean(axis=1, keepdims=True) - positions
        freedom = len(table) - 1
        scatter = float((rest**2).sum()) / (freedom * (table.shape[1] - 1))
        between = len(table) * float((positions**2).sum()) / (table.shape[1] - 1)
        return between >= self.min_distinctness * scatter

    def _finding(
        self, window: StepWindow, shown: FaultSteps, micro_batches: MicroBatches
    ) -> Finding:
        num, first = len(micro_batches), micro_batches.first
        is_known = not math.isnan(first.total)
        is_sure = is_known and first.count > 1
        values: Values = {
            "num": num,
            "backward": window.at(first),
            "optimizer": window.name,
        }
        if is_sure:
            cause = say(
                "backward at {backward} adds up the mean losses of {num} micro-batches before each "
                "step of {optimizer:the} without dividing by {num}: the gradient is {num} times "
                "that of one batch, as if the learning rate were {num} times as high",
                **values,
            )
        elif not is_known:
            cause = say(
                "backward at {backward} runs {num} times before each step of {optimizer:the}, and "
                "the loss is not divided by {num}; the graph does not show whether the loss is a "
                "mean, so this may be correct",
                **values,
            )
        else:
            cause = say(
                "backward at {backward} adds up the losses of {num} single samples before each "
                "step of {optimizer:the}: the gradient is that of the sum of their losses, not of "
                "the mean",
                **values,
            )
        advice, excerpt = framework_advice(window, micro_batches, UNDIVIDED) or (
            say("divide each loss by the number of micro-batches per step"),
            f"(loss / {num}).backward()",
        )
        backwards = window.evidence("num_backwards", num, 1.0)
        weight = window.evidence("loss_weight", sum(micro_batches.totals), 1.0)
        return self.finding_of_window(
            window,
            cause,
            advice,
            excerpt,
            evidence=(backwards, weight) if is_known else (backwards,),
            at=first,
            since=shown.first,
            severity=self.severity if is_sure else "info",
        )
