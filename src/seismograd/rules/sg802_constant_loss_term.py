"""SG802 constant-loss-term."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar, final

from seismograd.analysis.mended_term import with_graph, without_block
from seismograd.analysis.rounded_term_words import words_of_rounded_term
from seismograd.diagnosis.fact_rule import FactRule
from seismograd.diagnosis.rule import known, memory
from seismograd.i18n import Message, say
from seismograd.schema import Evidence, Fact, FactKind, Finding


@final
@dataclass
class ConstantLossTerm(FactRule):
    """A term of the loss adds to the loss but produces no gradient: it has no graph, or one that
    lets nothing through.

    What it finds
        A term that was computed with `.item()`, `.data`, `.detach()` or `torch.tensor(loss)`, or
        under `torch.no_grad()`, and is added to terms that have a graph: a distillation loss whose
        student was detached, or that compares the teacher with itself; a penalty on a copy of the
        weights; a gradient penalty without `create_graph=True`. Also a derivative without it that
        is added to what the loss squares, as in the residual of a differential equation. Also a
        term of rounded values, such
        as the Dice loss of `torch.round(probabilities)`, beside terms that train.

    Why it hurts
        The logged loss includes the term, but training ignores it. The other terms may happen to
        make it smaller, so that it looks as if it worked.

    How it decides
        The rule checks the graph of the loss, in the first backward passes of each line and less
        and less often later, for a sum with an operand that has no graph. The value of the operand
        is what is left of the loss after the terms with a graph have been recomputed from their
        saved tensors, where that is possible. It counts if it is positive, is at least
        {min_share:.0%} of the loss, and was different each of {num_looks:g} times, by at least
        {min_change:.1%} of the loss. A term of zero counts as often if a variable of the script
        with that value has no graph and the script computes it by a loss function. Where the
        value cannot be recomputed, a term counts if the script shows the only statement that adds
        something without a graph to what is backpropagated. A term that reaches parameters only
        through operations whose derivative is zero everywhere (`round`, `sign`, `floor` and their
        kin) counts if that was so {num_looks:g} times, and other terms reach all of these
        parameters. A derivative counts if the script shows that the result of
        `torch.autograd.grad` is added to something else, number by number, on its way to the loss,
        and if the graph begins at something that is no parameter, {num_looks:g} times.

    False alarms
        A number that never changes and a number that is subtracted (a baseline, the entropy of the
        targets) do not count. A part that is added without a gradient on purpose, to make the
        logged loss complete, is reported. The part of `x - x.floor()` that is rounded does not
        count, nor does a straight-through estimator.

    What to try
        - Print `term.requires_grad` for each term: it must be True.
        - Remove `.item()`, `.detach()`, `torch.tensor(…)` and `torch.no_grad()` between the model
          and this term.
        - Compute the term from the values before they are rounded.
        - A gradient penalty needs `torch.autograd.grad(…, create_graph=True)`.

    References
        - PyTorch documentation, Autograd mechanics; torch.autograd.grad.
    """

    code: ClassVar[str] = "SG802"
    name: ClassVar[str] = "constant-loss-term"
    severity: ClassVar[str] = "warning"
    needs: ClassVar[tuple[str, ...]] = ()
    needs_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.CONSTANT_TERM,)
    takes_facts: ClassVar[tuple[FactKind, ...]] = (
        FactKind.ROUNDED_TERM,
        FactKind.FIRST_ORDER_TERM,
    )

    min_evaluated: int = 3  # steps
    min_share: float = 0.01  # of the loss
    num_looks: int = 3
    min_change: float = 0.001  # of the loss

    # by line
    _seen: dict[str, list[Fact]] = field(
        default_factory=dict[str, "list[Fact]"], init=False, repr=False
    )
    _rounded: dict[str, list[Fact]] = memory(dict[str, "list[Fact]"])

    def judge(self, fact: Fact) -> None:
        found = self.found.get()
        if found is not None:
            if (fact.text("place") or fact.where) == found.where:
                self.found.extend(fact.iteration)
            return
        if fact.kind == FactKind.ROUNDED_TERM:
            self._judge_rounded(fact)
            return
        if fact.kind == FactKind.FIRST_ORDER_TERM:
            self._judge_first_order(fact)
            return
        seen = self._seen.setdefault(fact.where, [])
        seen.append(fact)
        zeros = [each for each in seen if each.text("name")]
        large = [
            each
            for each in seen
            if each.number("constant") >= self.min_share * abs(each.number("loss"))
        ]
        cut = [each for each in seen if math.isnan(each.number("constant"))]
        if len(zeros) == len(seen) >= self.num_looks:
            self.found.add(self._finding(zeros, self._of_zero(fact)))
        elif len(large) >= self.num_looks and self._varies(large):
            self.found.add(self._finding(large, self._of_number(large)))
        elif len(cut) >= self.num_looks:
            self.found.add(self._finding(cut, self._of_statement(cut[0])))

    def _judge_rounded(self, fact: Fact) -> None:
        seen = self._rounded.setdefault(fact.where, [])
        seen.append(fact)
        if len(seen) >= self.num_looks:
            evidence = Evidence("blocked", "", fact.iteration, fact.number("num"), 0.0)
            self.found.add(
                self.finding_of_fact(
                    fact,
                    *words_of_rounded_term(fact),
                    evidence=(evidence,),
                    first_step=seen[0].iteration,
                )
            )

    def _judge_first_order(self, fact: Fact) -> None:
        times = fact.number("times")
        if times >= self.num_looks:
            evidence = Evidence("first_order", "", fact.iteration, times, 0.0)
            cause = say(
                "the derivative that {line} computes is added to what the loss at {loss} is made "
                "of, but it has no graph, because torch.autograd.grad keeps none without "
                "create_graph=True: it is a constant there, and training ignores how it depends on "
                "the parameters",
                line=fact.text("place") or "?",
                loss=fact.where or "?",
            )
            advice = say(
                "pass create_graph=True to each torch.autograd.grad whose result the loss depends "
                "on"
            )
            self.found.add(
                self.finding_of_fact(
                    fact,
                    cause,
                    advice,
                    with_graph(fact.text("text"))
                    or "(d2,) = torch.autograd.grad(d.sum(), x, create_graph=True)",
                    evidence=(evidence,),
                    first_step=max(0, fact.iteration - self.num_looks + 1),
                )
            )

    def _varies(self, large: Sequence[Fact]) -> bool:
        values = sorted(each.number("constant") for each in large)
        least = self.min_change * max(abs(each.number("loss")) for each in large)
        return all(other - one >= least for one, other in pairwise(values))

    def _of_zero(self, fact: Fact) -> Message:
        return say(
            "the term {name} of the loss at {line} has no graph and has been 0 each time: what it "
            "compares does not depend on the parameters, and is probably the same tensor twice",
            name=fact.text("name"),
            line=fact.where or "?",
        )

    def _of_statement(self, fact: Fact) -> Message:
        return say(
            "a term of the loss has no graph, because {line} takes it out: it adds to the loss, "
            "but it produces no gradient for any parameter",
            line=fact.text("place"),
        )

    def _of_number(self, large: Sequence[Fact]) -> Message:
        first, last = large[0], large[-1]
        share = max(each.number("constant") / abs(each.number("loss")) for each in large)
        return say(
            "a term of the loss at {line} has no graph: it was {first} at step {step} and {last} "
            "at step {until}, up to {share:.0%} of the loss, but it produces no gradient for any "
            "parameter",
            line=first.text("place") or first.where or "?",
            first=f"{first.number('constant'):.4g}",
            step=first.iteration,
            last=f"{last.number('constant'):.4g}",
            until=last.iteration,
            share=min(share, 1.0),
        )

    def _finding(self, seen: Sequence[Fact], cause: Message) -> Finding:
        first, last = seen[0], seen[-1]
        name = last.text("name")
        return self.finding(
            first_step=first.iteration,
            last_step=last.iteration,
            evidence=known(
                Evidence("constant_term", "", last.iteration, last.number("constant"), 0.0)
            ),
            cause=cause,
            advice=say("compute it from the output of the model that is trained")
            if name
            else say(
                "pass create_graph=True to torch.autograd.grad, so that its result has a graph; "
                "if the term is there only to be logged, log it separately from the loss"
            )
            if "autograd.grad(" in last.text("text")
            else say(
                "remove what cuts it off: .item(), .data, .detach(), torch.tensor(…) or "
                "torch.no_grad() between the model and this term; if it is there only to be "
                "logged, log it separately from the loss"
            ),
            where=last.text("place") or last.where,
            excerpt=f"assert {name}.requires_grad"
            if name
            else with_graph(last.text("text"))
            or without_block(last.text("text"))
            or "assert all(term.requires_grad for term in terms)",
        )
