"""SG310 gradient-rescaled."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.block_rows import numbers, statistic
from seismograd.analysis.framework_advice import DIVIDED_TWICE, framework_advice
from seismograd.analysis.medians import median
from seismograd.analysis.repeated_fault import FaultSteps
from seismograd.analysis.script_names import (
    at_line,
    line_of,
    optimizer_name,
    own_call,
    undivided_of,
)
from seismograd.analysis.shared_block import SharedBlock
from seismograd.analysis.step_window import StepWindow
from seismograd.diagnosis.window_rule import WindowRule
from seismograd.i18n import Message, say
from seismograd.schema import (
    EventFlag,
    Evidence,
    Fact,
    FactKind,
    Finding,
    RowBatch,
    State,
    StepFlag,
)


@final
@dataclass
class GradientRescaled(WindowRule):
    """Gradients are divided or multiplied by hand although the loss is already a mean, or the loss
    is divided twice.

    What it finds
        The script scales in two places: it divides the loss by the number of micro-batches and then
        the gradients again, or divides a mean by the batch size, or unscales gradients by hand
        before `GradScaler` unscales them again. Or a hook on every parameter multiplies its
        gradient.

    Why it hurts
        The step is too small or too large by an unintended factor. With SGD this amounts to a
        different learning rate; Adam hides it, but it still affects clipping, weight decay and
        Adam's epsilon.

    How it decides
        The rule finds three cases. In the first, the gradient that the optimizer used is the same
        multiple of the one that backward computed, for all parameters (within {tolerance:.1%}) and
        in {in_a_row} steps in a row, while the losses of the window add up to one mean; a recorded
        clip is taken into account. In the second, the losses of several micro-batches are each
        divided by the square of their number, or a mean over at least {min_count} samples is
        divided by their number again, also in {in_a_row} steps in a row. In the third, hooks on all
        parameters of an optimizer multiply the gradients by the same number, measured before and
        after the hooks in {in_a_row} backward passes.

    False alarms
        Gradients of a sum, of an accumulation without division or of a loss that was scaled by hand
        have to be divided, and do not count. Clipping by hand, whose factor changes, and a factor
        for only some of the parameters do not count either. A factor for all parameters that
        replaces a learning rate on purpose is reported.

    What to try
        - Divide in one place only: divide the loss, not the gradients.
        - Check whether a trainer, a wrapper or a hook divides as well.
        - With `GradScaler`, let `scaler.unscale_` and `scaler.step` do the division.

    References
        - PyTorch documentation, Automatic mixed precision examples: gradient accumulation.
    """

    code: ClassVar[str] = "SG310"
    name: ClassVar[str] = "gradient-rescaled"
    severity: ClassVar[str] = "warning"
    needs: ClassVar[tuple[str, ...]] = ("grad_norm", "applied_norm")
    absorbs: ClassVar[tuple[str, ...]] = ("SG101", "SG105", "SG106", "SG107", "SG108")

    in_a_row: int = 3  # steps
    tolerance: float = 0.005
    min_count: int = 4  # samples

    _hooks: dict[int, list[Fact]] = field(
        default_factory=dict[int, "list[Fact]"], init=False, repr=False
    )
    _last: dict[int, tuple[str, float]] = field(
        default_factory=dict[int, tuple[str, float]], init=False, repr=False
    )

    def look(self, block: SharedBlock, window: StepWindow) -> None:
        if window.flags & (StepFlag.SKIPPED | StepFlag.NO_BACKWARD) or not window.backwards:
            return
        kind, factor = "gradient", self._by_hand(block, window)
        if factor is None:
            kind, factor = "loss", self._twice(window)
        if factor is None:
            return
        before = self._last.get(window.optimizer, (kind, factor))
        if before[0] != kind or not math.isclose(before[1], factor, rel_tol=self.tolerance):
            self._repeated.interrupt(window.optimizer)
        self._last[window.optimizer] = kind, factor
        words = self._of_gradient if kind == "gradient" else self._of_loss
        self.at_fault(words, block, window, factor)

    def learn(self, fact: Fact) -> Iterable[Finding]:
        if fact.kind != FactKind.HOOK_FACTOR:
            return []
        factor, seen = fact.number("factor"), self._hooks.setdefault(fact.optimizer, [])
        if seen and not math.isclose(seen[-1].number("factor"), factor, rel_tol=self.tolerance):
            seen.clear()
        seen.append(fact)
        if len(seen) < self.in_a_row or math.isclose(factor, 1.0, rel_tol=2 * self.tolerance):
            return []
        values: dict[str, str | int | float] = {
            "factor": f"{factor:.4g}",
            "backward": fact.where or "?",
        }
        return [
            self.finding(
                optimizer=fact.optimizer,
                first_step=seen[0].iteration,
                last_step=fact.iteration,
                evidence=(Evidence("hook_factor", "", fact.iteration, factor, 1.0),),
                cause=say(
                    "hooks on the parameters multiply every gradient of backward at {backward} by "
                    "{factor}",
                    **values,
                ),
                advice=say(
                    "remove the hooks and choose the learning rate instead; DDP itself divides to "
                    "average over replicas"
                ),
                where=fact.where,
                excerpt="# parameter.register_hook(lambda grad: …)",
            )
        ]

    def shortfall(self) -> Message | None:
        windows = self._windows
        if windows.num_closures and windows.total_steps() - windows.num_closures < self.in_a_row:
            return say(
                "it is unknown what a closure does to the gradients after backward (steps: "
                "{count})",
                count=windows.num_closures,
            )
        return super().shortfall()

    def _by_hand(self, block: RowBatch, window: StepWindow) -> float | None:
        """Return the factor of all gradients between backward and step, where they came from one
        mean; `None`: no common factor.
        """
        total = sum(each.total for each in window.backwards)
        if not window.flags & StepFlag.CHANGED or not math.isclose(total, 1.0, rel_tol=0.05):
            return None
        own = np.array(
            [parameter.optimizer == window.optimizer for parameter in block.parameters], np.bool_
        )
        own &= block.state[window.row] == State.FINITE
        ready, applied = (
            statistic(block, name)[window.row][own] for name in ("grad_norm", "applied_norm")
        )
        coefficient = float(numbers(block.steps, "clip_coefficient")[window.row])
        factors = applied / ready / (coefficient if coefficient > 0 else 1.0)
        if not len(factors) or not np.isfinite(factors).all() or factors.min() <= 0:
            return None
        factor = median(factors)
        if factors.max() > factors.min() * (1 + self.tolerance) or math.isclose(
            factor, 1.0, rel_tol=2 * self.tolerance
        ):
            return None
        unscaled = window.step.scale != 1 and math.isclose(
            factor * window.step.scale, 1.0, rel_tol=self.tolerance
        )
        return None if unscaled else factor

    def _twice(self, window: StepWindow) -> float | None:
        """Return the remaining weight of the loss when it is divided once more than it should
        be.
        """
        micro_batches = window.micro_batches()
        num = len(micro_batches)
        if not num or any(
            each.flags & EventFlag.SUMMED or not each.flags & EventFlag.RESCALED
            for each in micro_batches
        ):
            return None
        total = sum(each.total for each in micro_batches)
        if num >= 2:
            return total if math.isclose(total * num, 1.0, rel_tol=self.tolerance) else None
        count = micro_batches[0].count
        return (
            total
            if count >= self.min_count and math.isclose(total * count, 1.0, rel_tol=self.tolerance)
            else None
        )

    def _of_gradient(
        self, block: SharedBlock, window: StepWindow, shown: FaultSteps, factor: float
    ) -> Finding:
        column = int(np.argmax(block.state[window.row] == State.FINITE))
        applied, ready = (
            float(statistic(block, name)[window.row, column])
            for name in ("applied_norm", "grad_norm")
        )
        name = block.parameters[column].name
        undivided = undivided_of(own_call(block, window.backwards[-1], "backward()"))
        return self.finding(
            optimizer=window.optimizer,
            first_step=shown.since,
            last_step=window.iteration,
            evidence=(Evidence("applied_norm", name, window.iteration, applied, ready),),
            cause=say(
                "between backward at {backward} and {optimizer}.step() at {step}, every gradient "
                "is multiplied by {factor}, although the losses of the step already add up to one "
                "mean",
                backward=at_line(block, window.backwards[-1]),
                optimizer=optimizer_name(block, window.optimizer),
                step=at_line(block, window.step),
                factor=f"{factor:.4g}",
            ),
            advice=say(
                "remove either the line that scales the gradients by hand or the division of the "
                "loss: only one of them is needed"
            ),
            where=line_of(block, window.backwards[-1] if undivided else window.step),
            excerpt=undivided or "# p.grad /= …",
        )

    def _of_loss(
        self, block: SharedBlock, window: StepWindow, shown: FaultSteps, factor: float
    ) -> Finding:
        backward, num = window.backwards[-1], len(window.micro_batches())
        values: dict[str, str | int | float] = {
            "optimizer": optimizer_name(block, window.optimizer),
            "factor": f"{factor:.4g}",
            "backward": at_line(block, backward),
            "num": num,
            "count": backward.count,
        }
        if num >= 2:
            cause = say(
                "the losses of {num} micro-batches at {backward} are divided by {num} twice, so "
                "the gradient of a step of {optimizer:the} is {factor} of what it should be",
                **values,
            )
            advice, excerpt = framework_advice(block, backward, DIVIDED_TWICE, num) or (
                say("divide each loss by the number of micro-batches only once"),
                f"(loss / {num}).backward()",
            )
        else:
            cause = say(
                "the loss at {backward} is already a mean over {count:g} samples and is divided by "
                "{count:g} again: the gradient of a step of {optimizer:the} is {factor} of what it "
                "should be",
                **values,
            )
            advice = say("backpropagate the mean as it is, without dividing it")
            excerpt = "loss.backward()"
        return self.finding(
            optimizer=window.optimizer,
            first_step=shown.since,
            last_step=window.iteration,
            evidence=(Evidence("loss_weight", "", window.iteration, factor, 1.0),),
            cause=cause,
            advice=advice,
            where=line_of(block, backward),
            excerpt=excerpt,
        )
