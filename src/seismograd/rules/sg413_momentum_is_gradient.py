"""SG413 momentum-is-gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from seismograd.diagnosis.fact_rule import FactRule
from seismograd.i18n import say
from seismograd.schema import Evidence, Fact, FactKind


@final
@dataclass
class MomentumIsGradient(FactRule):
    """An optimizer's momentum is the gradient's own memory, and not a copy of it.

    What it finds
        An optimizer of the script's own that begins its momentum or its average with `p.grad`
        itself: `state["buf"] = p.grad`.

    Why it hurts
        `zero_grad(set_to_none=False)` clears the momentum, or `backward` adds to it, and the step
        changes the gradient. There is no momentum, and the step is a multiple of the gradient: the
        training is slower or less steady than it should be. Nothing raises an error.

    How it decides
        At the first steps of an optimizer that is not torch's own, as a step begins, the rule
        compares where the gradients lie with where the entries of the optimizer's state lie whose
        names say that they are kept, such as a buffer, a momentum or an average. It reports
        {min_looks} looks in a row.

    False alarms
        An entry with such a name that only refers to the gradient and is set anew in each step.

    What to try
        - `state["buf"] = p.grad.clone()`, or begin with `torch.zeros_like(p)`.

    References
        - PyTorch documentation, torch.optim.SGD.
    """

    code: ClassVar[str] = "SG413"
    name: ClassVar[str] = "momentum-is-gradient"
    severity: ClassVar[str] = "error"
    needs: ClassVar[tuple[str, ...]] = ()
    needs_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.GRADIENT_ALIAS,)

    min_looks: int = 3

    def judge(self, fact: Fact) -> None:
        times, optimizer = fact.number("times"), fact.optimizer
        if times < self.min_looks:
            return
        if optimizer in self.found:
            self.found.extend(fact.iteration, optimizer)
            return
        entry = fact.text("entry")
        self.found.add(
            self.finding_of_fact(
                fact,
                say(
                    "what {optimizer:the} keeps as {entry} is the gradient itself, the same memory "
                    "({first} and others): clearing the gradients clears it, a backward adds to "
                    "it, and the step changes the gradients",
                    optimizer=fact.text("name"),
                    entry=entry,
                    first=next(iter(fact.parameters), "?"),
                ),
                say("keep a copy of the gradient"),
                f'state["{entry}"] = p.grad.clone()',
                evidence=(Evidence("looks", "", fact.iteration, times, float(self.min_looks)),),
            )
        )
