"""SG808 falling-loss-weight."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, final

from seismograd.analysis.held_weights import with_held_weight
from seismograd.diagnosis.fact_rule import FactRule
from seismograd.diagnosis.rule import memory
from seismograd.i18n import say
from seismograd.schema import Evidence, Fact, FactKind


@final
@dataclass
class FallingLossWeight(FactRule):
    """A learned weight of a term of the loss falls toward zero, because nothing holds it.

    What it finds
        `exp(-s) * loss` or `loss / sigma ** 2` with a parameter `s` or `sigma` and without the term
        that belongs to it, `+ s` or `+ log(sigma)`, as in weighting several tasks by their
        uncertainty.

    Why it hurts
        The cheapest way to make the loss smaller is a smaller weight. The loss looks excellent
        while the weighted terms count less and less, until nothing trains them.

    How it decides
        The rule checks the graph of the loss, in the first backward passes of each line and less
        and less often later, for a whole term of it that is multiplied by a positive function of a
        parameter, or divided by one, number by number, where no graph of a loss has this parameter
        in another way. The terms must not be negative, and the weight must have fallen from each of
        at least {min_sightings:g} checks to the next, to no more than {max_left:.0%} of what it was
        at first.

    False alarms
        A multiplier of a constraint, which grows where the constraint is broken and falls where the
        term is negative, does not count, nor do weights that sum to one, or a temperature of
        logits. A weight that is meant to fade out on its own is
        reported.

    What to try
        - Add the term that holds the weight: `exp(-s) * loss + s`.
        - Set the weights by hand, from the sizes of the terms at the start.

    References
        - Kendall, Gal, Cipolla (2018), Multi-task learning using uncertainty to weigh losses.
        - Liebel, Körner (2018), Auxiliary tasks in multi-task learning.
    """

    code: ClassVar[str] = "SG808"
    name: ClassVar[str] = "falling-loss-weight"
    severity: ClassVar[str] = "error"
    needs: ClassVar[tuple[str, ...]] = ()
    needs_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.LOSS_WEIGHT,)
    absorbs: ClassVar[tuple[str, ...]] = ("SG106", "SG108")

    min_evaluated: int = 5  # steps
    min_sightings: int = 4
    max_left: float = 0.5  # of the first weight

    _seen: dict[str, list[Fact]] = memory(dict[str, "list[Fact]"])  # by parameter

    def judge(self, fact: Fact) -> None:
        (name,) = fact.parameters
        seen = self._seen.setdefault(name, [])
        seen.append(fact)
        if fact.optimizer in self.found:
            self.found.extend(fact.iteration, fact.optimizer)
            return
        begun, now = seen[0].number("weight"), fact.number("weight")
        if not self._falls(seen) or not now <= self.max_left * begun:
            return
        fall = [n for n, each in self._seen.items() if self._falls(each)]
        names = [n for n in fall if self._seen[n][0].optimizer == fact.optimizer]
        text = fact.text("text")
        self.found.add(
            self.finding(
                say(
                    "a term of the loss at {line} is multiplied by a weight that is learned, a "
                    "function of {name}, and reaches that parameter in no other way: a smaller "
                    "weight always makes the loss smaller, so it has fallen from {begun:.3g} to "
                    "{now:.3g}, and the term trains less and less",
                    line=fact.where or "?",
                    name=name,
                    begun=begun,
                    now=now,
                ),
                say(
                    "add what holds the weight where it belongs: `+ s` for `exp(-s) * loss`, "
                    "`+ log(sigma)` for `loss / (2 * sigma ** 2)`"
                ),
                with_held_weight(text) or "loss = torch.exp(-s) * term + s",
                first_step=seen[0].iteration,
                last_step=fact.iteration,
                optimizer=fact.optimizer,
                parameters=tuple(names),
                evidence=(Evidence("weight", name, fact.iteration, now, self.max_left * begun),),
                where=fact.text("place") or fact.where,
            )
        )

    def _falls(self, seen: list[Fact]) -> bool:
        values = [each.number("weight") for each in seen]
        # a multiplier that is changed to raise the loss falls where its constraint is met
        is_positive = all(each.number("least") >= 0 for each in seen)
        enough = len(seen) >= self.min_sightings and is_positive
        return enough and all(b < a for a, b in pairwise(values))
