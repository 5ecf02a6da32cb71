"""SG802 constant-loss-term."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import ClassVar, final

from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import Evidence, Fact, FactKind, Finding, RowBatch


@final
@dataclass
class ConstantLossTerm(Rule):
    """A term of the loss has no graph: it counts in the loss and gives no gradient.

    What it finds
        A term that was made from `.item()`, `.data`, `.detach()`, `torch.tensor(loss)` or under
        `torch.no_grad()`, and is added to others that have a graph: a distillation whose student
        was detached, a penalty on a copy of the weights, a gradient penalty without
        `create_graph=True`.

    Why it hurts
        The loss that is logged has the term in it, and the training does as if it were not there.
        The other terms may well make it smaller by chance, so that it looks as if it worked.

    How it decides
        From the graph of the loss, at the first backwards of each line and ever more rarely later:
        a sum one of whose operands has no graph. Its value is what is left of the loss when the
        terms with a graph are computed again from what they have kept, where that is possible. It
        counts when it is positive, at least {min_share:.0%} of the loss, and was another one each
        of {num_looks:g} times, by at least {min_change:.1%} of the loss.

    False alarms
        A number that never changes, and one that is subtracted (a baseline, the entropy of the
        targets) do not count. A part that is added on purpose without a gradient, so that the
        logged loss is complete, is reported.

    What to try
        - Print `term.requires_grad` of each term: it has to be True.
        - Take away `.item()`, `.detach()`, `torch.tensor(…)` and `torch.no_grad()` on its way from
          the model.
        - A gradient penalty needs `torch.autograd.grad(…, create_graph=True)`.

    References
        - PyTorch documentation, Autograd mechanics; torch.autograd.grad.
    """

    code: ClassVar[str] = "SG802"
    name: ClassVar[str] = "constant-loss-term"
    severity: ClassVar[str] = "warning"
    needs: ClassVar[tuple[str, ...]] = ()
    needs_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.CONSTANT_TERM,)

    min_share: float = 0.01  # of the loss
    num_looks: int = 3
    min_change: float = 0.001  # of the loss

    _num_rows: int = field(default=0, init=False, repr=False)
    # by line
    _seen: dict[str, list[Fact]] = field(
        default_factory=dict[str, "list[Fact]"], init=False, repr=False
    )
    _finding: Finding | None = field(default=None, init=False, repr=False)

    def observe(self, block: RowBatch) -> Iterable[Finding]:
        self._num_rows += len(block)
        return []

    def learn(self, fact: Fact) -> Iterable[Finding]:
        if fact.kind != FactKind.CONSTANT_TERM:
            return []
        if self._finding is not None:
            if fact.where == self._finding.where:
                self._finding = replace(
                    self._finding, last_step=max(self._finding.last_step, fact.iteration)
                )
            return [self._finding]
        seen = self._seen.setdefault(fact.where, [])
        seen.append(fact)
        large = [
            each
            for each in seen
            if each.number("constant") >= self.min_share * abs(each.number("loss"))
        ]
        if len(large) < self.num_looks:
            return []
        values = sorted(each.number("constant") for each in large)
        least = self.min_change * max(abs(each.number("loss")) for each in large)
        if any(other - one < least for one, other in pairwise(values)):
            return []
        share = max(each.number("constant") / abs(each.number("loss")) for each in large)
        first, last = large[0], large[-1]
        self._finding = Finding(
            code=self.code,
            name=self.name,
            severity=self.severity,
            optimizer=-1,
            first_step=first.iteration,
            last_step=last.iteration,
            parameters=(),
            evidence=(Evidence("constant_term", "", last.iteration, last.number("constant"), 0.0),),
            cause=say(
                "a term of the loss at {line} has no graph: it was {first} at step {step} and "
                "{last} at step {until}, up to {share:.0%} of "
                "the loss, and gives no gradient to anything",
                line=fact.where or "?",
                first=f"{first.number('constant'):.4g}",
                step=first.iteration,
                last=f"{last.number('constant'):.4g}",
                until=last.iteration,
                share=min(share, 1.0),
            ),
            advice=say(
                "take away what cuts it off: .item(), .data, .detach(), torch.tensor(…) or "
                "torch.no_grad() on its way from the model; if "
                "it is there to be logged, log it beside the loss"
            ),
            where=fact.where,
            excerpt="assert all(term.requires_grad for term in terms)",
        )
        return [self._finding]

    def shortfall(self) -> Message | None:
        has, needed = self._num_rows, self.num_looks
        return (
            None
            if has >= needed
            else say("needs {needed} steps, has {has}", needed=needed, has=has)
        )
