"""SG310 gradient-rescaled."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.framework_advice import DIVIDED_TWICE, framework_advice
from seismograd.analysis.gradient_factor import gradient_factor
from seismograd.analysis.mended_reversal import turned
from seismograd.analysis.micro_batches import MicroBatches
from seismograd.analysis.repeated_fault import FaultSteps
from seismograd.analysis.script_names import undivided_of
from seismograd.analysis.step_window import StepWindow
from seismograd.diagnosis.rule import memory, per_optimizer
from seismograd.diagnosis.window_rule import WindowRule
from seismograd.i18n import Message, Values, say
from seismograd.schema import EventFlag, Evidence, Fact, FactKind, Finding, State, StepFlag


@final
@dataclass
class GradientRescaled(WindowRule):
    """Gradients are divided or multiplied by hand although the loss is already a mean, or the loss
    is divided twice.

    What it finds
        The script scales in two places: it divides the loss by the number of micro-batches and then
        the gradients again, or divides a mean by the batch size, or unscales gradients by hand
        before `GradScaler` unscales them again. Or a hook on every parameter multiplies its
        gradient, or more and more of the same hook pile up on parameters, and each multiplies once
        more. Or an autograd Function that is called a gradient reversal does not turn the sign.

    Why it hurts
        The step is too small or too large by an unintended factor. With SGD this amounts to a
        different learning rate; Adam hides it, but it still affects clipping, weight decay and
        Adam's epsilon. Features behind a reversal without its sign learn to tell domains apart
        instead of hiding them.

    How it decides
        The rule finds five cases. In the first, the gradient that the optimizer used is the same
        multiple of the one that backward computed, for all parameters (within {tolerance:.1%}) and
        in {in_a_row} steps in a row, while the losses of the window add up to one mean; a recorded
        clip is taken into account. In the second, the losses of several micro-batches are each
        divided by the square of their number, or a mean over at least {min_count} samples is
        divided by their number again, also in {in_a_row} steps in a row. In the third, hooks on all
        parameters of an optimizer multiply the gradients by the same number, measured before and
        after the hooks in {in_a_row} backward passes. In the fourth, an autograd Function with a
        name like `GradReverse` or `GRL` passes its gradient on multiplied by a positive number, in
        {in_a_row} backward passes. In the fifth, parameters have more hooks of the same code than
        at an earlier look, and the factor at both is a power of the same number, with as many
        hooks for the exponent (within {tolerance:.1%}), and not one.

    False alarms
        Gradients of a sum, of an accumulation without division or of a loss that was scaled by hand
        have to be divided, and do not count. Clipping by hand, whose factor changes, and a factor
        for only some of the parameters do not count either. A factor for all parameters that
        replaces a learning rate on purpose is reported.

    What to try
        - Register hooks once, before the loop.
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

    _hooks: dict[int, list[Fact]] = per_optimizer(list[Fact])
    _piles: dict[int, list[Fact]] = per_optimizer(list[Fact])
    _last: dict[int, tuple[bool, float]] = memory(dict[int, tuple[bool, float]])
    _reversed: dict[str, int] = memory(dict[str, int])  # first iterations, by the Function

    def look(self, window: StepWindow) -> None:
        if window.flags & (StepFlag.SKIPPED | StepFlag.NO_BACKWARD) or not window.backwards:
            return
        micro_batches = MicroBatches.of(window)
        is_one_mean = math.isclose(sum(each.total for each in window.backwards), 1, rel_tol=0.05)
        by_hand = gradient_factor(window, self.tolerance) if is_one_mean else None
        factor = self._twice(micro_batches) if by_hand is None else by_hand
        if factor is None:
            return
        is_of_loss = by_hand is None
        before = self._last.get(window.optimizer, (is_of_loss, factor))
        if before[0] != is_of_loss or not self._is_same(before[1], factor):
            self._repeated.interrupt(window.optimizer)
        self._last[window.optimizer] = is_of_loss, factor
        if is_of_loss:
            self.at_fault(window, self._of_loss, factor, micro_batches)
        else:
            self.at_fault(window, self._of_gradient, factor)

    def learn(self, fact: Fact) -> Iterable[Finding]:
        if fact.kind == FactKind.REVERSAL:
            since = self._reversed.setdefault(fact.text("function"), fact.iteration)
            is_certain = fact.number("times") >= self.in_a_row
            return (self._of_reversal(fact, since),) if is_certain else ()
        if fact.kind == FactKind.PILED_HOOKS:
            first = self._first_pile(fact)
            return () if first is None else (self._of_piles(fact, first),)
        if fact.kind != FactKind.HOOK_FACTOR:
            return ()
        factor, seen = fact.number("factor"), self._hooks[fact.optimizer]
        if seen and not self._is_same(seen[-1].number("factor"), factor):
            seen.clear()
        seen.append(fact)
        if len(seen) < self.in_a_row or math.isclose(factor, 1.0, rel_tol=2 * self.tolerance):
            return ()
        return (self._of_hooks(fact, seen[0].iteration),)

    def shortfall(self) -> Message | None:
        closures = self._windows.num_closures
        if closures and self._windows.total_steps() - closures < self.in_a_row:
            return say(
                "it is unknown what a closure does to the gradients after backward (steps: "
                "{count})",
                count=closures,
            )
        return super().shortfall()

    def _first_pile(self, fact: Fact) -> Fact | None:
        """Return what was told when there were fewer of these hooks, each of which multiplied by
        the same number, if that is known.
        """
        seen, rate = self._piles[fact.optimizer], _rate(fact)
        if seen and (
            fact.number("hooks") < seen[-1].number("hooks")
            or not self._is_same(_rate(seen[0]), rate)
        ):
            seen.clear()
        seen.append(fact)
        is_growing = seen[0].number("hooks") < fact.number("hooks")
        is_one = math.isclose(rate, 1.0, rel_tol=2 * self.tolerance)
        return seen[0] if is_growing and not is_one else None

    def _is_same(self, factor: float, other: float) -> bool:
        return math.isclose(factor, other, rel_tol=self.tolerance)

    def _twice(self, micro_batches: MicroBatches) -> float | None:
        """Return the remaining weight of the loss when it is divided once more than it should
        be.
        """
        num, have = len(micro_batches), micro_batches.have
        if not num or any(have(EventFlag.SUMMED)) or not all(have(EventFlag.RESCALED)):
            return None
        total, count = sum(micro_batches.totals), micro_batches.first.count
        divisor = num if num >= 2 else count
        is_twice = num >= 2 or count >= self.min_count
        return total if is_twice and self._is_same(total * divisor, 1.0) else None

    def _of_gradient(self, window: StepWindow, shown: FaultSteps, factor: float) -> Finding:
        column = int(np.argmax(window.block.state[window.row] == State.FINITE))
        applied, ready = (
            float(window.block.values[name][window.row, column])
            for name in ("applied_norm", "grad_norm")
        )
        name, backward = window.block.parameters[column].name, window.backwards[-1]
        undivided = undivided_of(window.text(backward, "backward()"))
        return self.finding_of_window(
            window,
            say(
                "between backward at {backward} and {optimizer}.step() at {step}, every gradient "
                "is multiplied by {factor}, although the losses of the step already add up to one "
                "mean",
                backward=window.at(backward),
                optimizer=window.name,
                step=window.at(window.step),
                factor=f"{factor:.4g}",
            ),
            say(
                "remove either the line that scales the gradients by hand or the division of the "
                "loss: only one of them is needed"
            ),
            undivided or "# p.grad /= …",
            evidence=(window.evidence("applied_norm", applied, ready, name),),
            at=backward if undivided else window.step,
            since=shown.since,
        )

    def _of_loss(
        self, window: StepWindow, shown: FaultSteps, factor: float, micro_batches: MicroBatches
    ) -> Finding:
        backward, num = window.backwards[-1], len(micro_batches)
        values: Values = {
            "optimizer": window.name,
            "factor": f"{factor:.4g}",
            "backward": window.at(backward),
            "num": num,
            "count": backward.count,
        }
        if num >= 2:
            cause = say(
                "the losses of {num} micro-batches at {backward} are divided by {num} twice, so "
                "the gradient of a step of {optimizer:the} is {factor} of what it should be",
                **values,
            )
            advice, excerpt = framework_advice(window, micro_batches, DIVIDED_TWICE) or (
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
        evidence = window.evidence("loss_weight", factor, 1.0)
        return self.finding_of_window(
            window, cause, advice, excerpt, evidence=(evidence,), at=backward, since=shown.since
        )

    def _of_reversal(self, fact: Fact, since: int) -> Finding:
        factor = fact.number("factor")
        return self.finding(
            say(
                "{function} at {line}, which is called a reversal of the gradient, passes it on "
                "multiplied by {factor:.3g}, with the same sign: what comes before it is trained "
                "to help what comes after it, and not against it",
                function=fact.text("function"),
                line=fact.text("place") or fact.where or "?",
                factor=factor,
            ),
            say("return the negative gradient from backward"),
            turned(fact.text("text")) or "return -ctx.weight * grad_output, None",
            first_step=since,
            last_step=fact.iteration,
            severity="error",
            evidence=(Evidence("reversal", "", fact.iteration, factor, 0.0),),
            where=fact.text("place") or fact.where,
        )

    def _of_hooks(self, fact: Fact, since: int) -> Finding:
        factor = fact.number("factor")
        return self.finding_of_fact(
            fact,
            say(
                "hooks on the parameters multiply every gradient of backward at {backward} by "
                "{factor}",
                factor=f"{factor:.4g}",
                backward=fact.where or "?",
            ),
            say(
                "remove the hooks and choose the learning rate instead; DDP itself divides to "
                "average over replicas"
            ),
            "# parameter.register_hook(lambda grad: …)",
            evidence=(Evidence("hook_factor", "", fact.iteration, factor, 1.0),),
            first_step=since,
        )

    def _of_piles(self, fact: Fact, first: Fact) -> Finding:
        factor, num = fact.number("factor"), int(fact.number("hooks"))
        return self.finding(
            say(
                "the gradient hook at {line} has been registered {num} {num:time|times} on the "
                "same parameters, {before} {before:time|times} at step {step}: each of them "
                "multiplies the gradient by {each}, so all together by {factor} by now",
                line=fact.where or "?",
                num=num,
                before=int(first.number("hooks")),
                step=first.iteration,
                each=f"{_rate(fact):.4g}",
                factor=f"{factor:.4g}",
            ),
            say("register hooks once, before the loop, or remove each with its handle"),
            "handle = parameter.register_hook(…)  # later: handle.remove()",
            first_step=first.iteration,
            last_step=fact.iteration,
            severity="error",
            evidence=(Evidence("hook_factor", "", fact.iteration, factor, 1.0),),
            optimizer=fact.optimizer,
            where=fact.where,
        )


def _rate(fact: Fact) -> float:
    """Return what each of several hooks multiplies by, if all do the same."""
    return fact.number("factor") ** (1 / fact.number("hooks"))
