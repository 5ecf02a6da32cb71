"""SG311 never-stepped."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, final

from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import Evidence, Fact, FactKind, Finding, RowBatch


@final
@dataclass
class NeverStepped(Rule):
    """Gradients are computed again and again, and no step ever uses them.

    What it finds
        A training whose optimizer is never stepped, or one of several that never is; updates by
        hand that change no weight, because they give a new tensor to the name of the old one (`w =
        w - lr * w.grad`) or change a copy.

    Why it hurts
        The weights stay as they were initialised. The loss goes up and down with the batches, which
        looks like a training that is slow.

    How it decides
        At the end of the run. An optimizer counts when at least {min_backwards} backwards have
        reached what it holds, it was never stepped, and no other optimizer steps on the same.
        Without an optimizer the same parameters have to be reached by at least {min_by_hand}
        backwards in a row, with the same values each time and nothing else that wants a gradient.

    False alarms
        A program that computes gradients of a fixed model to look at them, and no training.
        Gradients of inputs do not count.

    What to try
        - Call `optimizer.step()` after each backward, or after the last one of a window; look for a
          condition that is never true.
        - By hand change the tensor itself: `with torch.no_grad(): w -= lr * w.grad`.
        - With Lightning's manual optimization, step each of `self.optimizers()` yourself.

    References
        - PyTorch documentation, torch.optim: taking an optimization step.
    """

    code: ClassVar[str] = "SG311"
    name: ClassVar[str] = "never-stepped"
    severity: ClassVar[str] = "error"
    needs: ClassVar[tuple[str, ...]] = ()
    needs_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.NEVER_STEPPED,)
    absorbs: ClassVar[tuple[str, ...]] = ("SG401",)

    min_backwards: int = 5
    min_by_hand: int = 20  # backwards

    # a step, or backwards without one
    _saw_any: bool = field(default=False, init=False, repr=False)

    def observe(self, block: RowBatch) -> Iterable[Finding]:
        self._saw_any |= len(block) > 0
        return []

    def learn(self, fact: Fact) -> Iterable[Finding]:
        if fact.kind != FactKind.NEVER_STEPPED:
            return []
        self._saw_any = True
        by_hand = fact.text("held_by") == "nobody"
        if fact.number("backwards") < (self.min_by_hand if by_hand else self.min_backwards):
            return []
        cause, advice, excerpt = _by_hand(fact) if by_hand else _never(fact)
        evidence = Evidence("backwards", "", fact.iteration, fact.number("backwards"), 0.0)
        return [
            Finding(
                code=self.code,
                name=self.name,
                severity=self.severity,
                optimizer=fact.optimizer,
                first_step=0,
                last_step=fact.iteration,
                parameters=fact.parameters,
                evidence=(evidence,),
                cause=cause,
                advice=advice,
                where=fact.where,
                excerpt=excerpt,
            )
        ]

    def shortfall(self) -> Message | None:
        return None if self._saw_any else say("needs {needed} steps, has {has}", needed=1, has=0)


def _never(fact: Fact) -> tuple[Message, Message, str]:
    values: dict[str, str | int | float] = {
        "optimizer": fact.text("name"),
        "backwards": int(fact.number("backwards")),
        "line": fact.where or "?",
        "others": fact.text("stepped"),
    }
    if fact.text("stepped"):
        cause = say(
            "{backwards} backwards at {line} gave gradients to what {optimizer} holds, and it was "
            "never stepped, while {others} was: its "
            "weights are as they were at the beginning",
            **values,
        )
    else:
        cause = say(
            "{backwards} backwards at {line}, and {optimizer} was never stepped: every weight is "
            "as it was at the beginning",
            **values,
        )
    return (
        cause,
        say(
            "call {optimizer}.step() after the backward; look for a condition that is never true",
            **values,
        ),
        (f"{values['optimizer']}.step()"),
    )


def _by_hand(fact: Fact) -> tuple[Message, Message, str]:
    values: dict[str, str | int | float] = {
        "num": int(fact.number("num")),
        "backwards": int(fact.number("backwards")),
        "line": fact.where or "?",
    }
    return (
        say(
            "{backwards} backwards at {line} gave gradients to the same {num} tensors, whose "
            "values never changed: no optimizer holds "
            "them, and what the script does by hand gives them no new values",
            **values,
        ),
        say(
            "change the tensor itself, in place and without a graph: `w = w - lr * w.grad` only "
            "gives its name to a new tensor; or let an "
            "optimizer do it"
        ),
        "with torch.no_grad(): w -= lr * w.grad",
    )
