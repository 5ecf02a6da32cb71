"""SG307 accumulation-not-scaled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.block_rows import numbers
from seismograd.analysis.framework_advice import UNDIVIDED, framework_advice
from seismograd.analysis.repeated_fault import FaultSteps
from seismograd.analysis.script_names import at_line, line_of, optimizer_name
from seismograd.analysis.shared_block import SharedBlock
from seismograd.analysis.step_window import StepWindow, WindowEvent
from seismograd.diagnosis.window_rule import WindowRule
from seismograd.i18n import say
from seismograd.schema import EventFlag, Evidence, Finding, RowBatch, StepFlag

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

    _losses: dict[int, list[tuple[float, ...]]] = field(
        default_factory=dict[int, list[tuple[float, ...]]], init=False, repr=False
    )

    def look(self, block: SharedBlock, window: StepWindow) -> None:
        micro_batches = window.micro_batches()
        if window.flags & (StepFlag.SKIPPED | StepFlag.NO_BACKWARD) or not self._is_undivided(
            block, window, micro_batches
        ):
            return
        losses = self._losses.setdefault(window.optimizer, [])
        losses.append(tuple(each.value for each in micro_batches))
        del losses[:-MAX_WINDOWS]
        if self._repeated.has_found(window.optimizer) or not self._are_different_tasks(losses):
            self.at_fault(self._finding, block, window)

    def _is_undivided(
        self, block: RowBatch, window: StepWindow, micro_batches: Sequence[WindowEvent]
    ) -> bool:
        """Return whether these are several means, each of which counts in full."""
        num = len(micro_batches)
        if (
            num < 2
            or (num == 2 and self._windows.several)
            or any(each.flags & EventFlag.SUMMED for each in micro_batches)
        ):
            return False
        if not all(self._counts_in_full(each) for each in micro_batches):
            return False
        if window.flags & StepFlag.CHANGED:
            ready, applied = (
                float(numbers(block.steps, name)[window.row])
                for name in ("grad_norm", "applied_norm")
            )
            return not (ready > 0 and math.isclose(applied * num, ready, rel_tol=self.tolerance))
        return True

    def _counts_in_full(self, backward: WindowEvent) -> bool:
        if math.isnan(backward.total):
            return not backward.flags & EventFlag.RESCALED
        return math.isclose(backward.total, 1.0, rel_tol=self.tolerance)

    def _are_different_tasks(self, losses: Sequence[tuple[float, ...]]) -> bool:
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

    def _finding(self, block: SharedBlock, window: StepWindow, shown: FaultSteps) -> Finding:
        micro_batches = window.micro_batches()
        num, first = len(micro_batches), micro_batches[0]
        values: dict[str, str | int | float] = {
            "num": num,
            "backward": at_line(block, first),
            "optimizer": optimizer_name(block, window.optimizer),
        }
        evidence = [Evidence("num_backwards", "", window.iteration, float(num), 1.0)]
        sure = not math.isnan(first.total) and first.count > 1
        if not math.isnan(first.total):
            evidence.append(
                Evidence(
                    "loss_weight",
                    "",
                    window.iteration,
                    sum(each.total for each in micro_batches),
                    1.0,
                )
            )
        if sure:
            cause = say(
                "backward at {backward} adds up the mean losses of {num} micro-batches before each "
                "step of {optimizer:the} without dividing by {num}: the gradient is {num} times "
                "that of one batch, as if the learning rate were {num} times as high",
                **values,
            )
        elif math.isnan(first.total):
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
        advice, excerpt = framework_advice(block, first, UNDIVIDED, num) or (
            say("divide each loss by the number of micro-batches per step"),
            f"(loss / {num}).backward()",
        )
        return self.finding(
            severity=self.severity if sure else "info",
            optimizer=window.optimizer,
            first_step=shown.first,
            last_step=window.iteration,
            evidence=tuple(evidence),
            cause=cause,
            advice=advice,
            where=line_of(block, first),
            excerpt=excerpt,
        )
