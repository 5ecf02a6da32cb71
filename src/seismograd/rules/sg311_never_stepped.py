"""SG311 never-stepped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from seismograd.diagnosis.fact_rule import FactRule
from seismograd.diagnosis.rule import Explanation
from seismograd.i18n import Values, say
from seismograd.schema import Evidence, Fact, FactKind


@final
@dataclass
class NeverStepped(FactRule):
    """Gradients are computed again and again, but no step ever uses them.

    What it finds
        Training in which `step` is never called on the optimizer, or on one of several; updates by
        hand that change no weight, because they bind the old name to a new tensor (`w = w - lr *
        w.grad`) or change a copy.

    Why it hurts
        The weights stay as they were initialised. The loss goes up and down with the batches, which
        looks like slow training.

    How it decides
        The rule decides at the end of the run. An optimizer counts if at least {min_backwards}
        backward passes reached its parameters, it never took a step, no other optimizer steps on
        the same parameters, and none of a few weights changed meanwhile, as they do where hooks or
        the script itself update them. Without an optimizer, at least {min_by_hand} backward passes
        in a row must have reached the same parameters, with the same values each time, and nothing
        else may require a gradient.

    False alarms
        A program that only inspects the gradients of a fixed model and does not train it. Gradients
        of inputs do not count.

    What to try
        - Call `optimizer.step()` after each backward pass, or after the last one of an accumulation
          window; look for a condition that is never true.
        - When updating by hand, change the tensor itself: `with torch.no_grad(): w -= lr * w.grad`.
        - With manual optimization in Lightning, call `step` yourself on each of
          `self.optimizers()`.

    References
        - PyTorch documentation, torch.optim: taking an optimization step.
    """

    code: ClassVar[str] = "SG311"
    name: ClassVar[str] = "never-stepped"
    severity: ClassVar[str] = "error"
    needs_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.NEVER_STEPPED,)
    absorbs: ClassVar[tuple[str, ...]] = ("SG401",)

    min_evaluated: int = 1  # steps
    min_backwards: int = 5
    min_by_hand: int = 20  # backwards

    def judge(self, fact: Fact) -> None:
        self._num_rows += 1  # backwards without a step are something to judge, too
        by_hand, num = fact.text("held_by") == "nobody", fact.number("backwards")
        if num >= (self.min_by_hand if by_hand else self.min_backwards):
            explanation = _by_hand(fact) if by_hand else _never(fact)
            evidence = (Evidence("backwards", "", fact.iteration, num, 0.0),)
            self.found.add(
                self.finding_of_fact(fact, *explanation, evidence=evidence, first_step=0)
            )


def _never(fact: Fact) -> Explanation:
    values: Values = {
        "optimizer": fact.text("name"),
        "backwards": int(fact.number("backwards")),
        "line": fact.where or "?",
        "others": fact.text("stepped"),
    }
    if fact.text("stepped"):
        cause = say(
            "backward at {line} computed gradients for the parameters of {optimizer:the} "
            "{backwards} times, but {optimizer}.step() was never called, while {others} took "
            "steps: the weights of {optimizer:the} have not changed since the start",
            **values,
        )
    else:
        cause = say(
            "backward at {line} ran {backwards} times, but {optimizer}.step() was never called: no "
            "weight has changed since the start",
            **values,
        )
    advice = say(
        "call {optimizer}.step() after backward; look for a condition that is never true", **values
    )
    return cause, advice, f"{values['optimizer']}.step()  # after backward"


def _by_hand(fact: Fact) -> Explanation:
    return (
        say(
            "backward at {line} computed gradients for the same {num} {num:tensor|tensors} "
            "{backwards} times, but their values never changed: no optimizer holds them, and the "
            "updates by hand give them no new values",
            num=int(fact.number("num")),
            backwards=int(fact.number("backwards")),
            line=fact.where or "?",
        ),
        say(
            "change the tensor itself, in place and without a graph: `w = w - lr * w.grad` only "
            "binds its name to a new tensor; or use an optimizer"
        ),
        "with torch.no_grad(): w -= lr * w.grad",
    )
