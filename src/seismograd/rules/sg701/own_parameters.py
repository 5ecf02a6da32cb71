"""Judge parameters of which every process has its own, under the name that the others use: experts
and shards, or replicas that were left out of the reduction.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from seismograd.diagnosis.rule import Rule
from seismograd.i18n import say
from seismograd.schema import Evidence, Fact, Finding


@dataclass(slots=True)
class OwnParameters:
    """What is known of them, and for how many checks it has been the same."""

    facts: list[Fact] = field(default_factory=list[Fact])  # of kind OWNERSHIP
    num_unchanged: int = 0
    _last: Fact | None = None

    def finding(self, rule: Rule, iteration: float, enough: int) -> Finding | None:
        """Return the finding about them, once so many checks up to this iteration agree."""
        known = [fact for fact in self.facts if fact.iteration <= iteration]
        if not known:
            return None
        fact = known[-1]
        self.num_unchanged = self.num_unchanged + 1 if fact is self._last else 1
        self._last = fact
        names = tuple(name for name in fact.parameters if not _is_of_an_expert(name))
        if self.num_unchanged < enough:
            return None
        if fact.number("ambiguous"):
            return _ambiguous(rule, fact)
        return _forgotten(rule, fact, names) if names else None


def _is_of_an_expert(name: str) -> bool:
    return "expert" in name.lower() or "moe" in name.lower().split(".")


def _forgotten(rule: Rule, fact: Fact, names: tuple[str, ...]) -> Finding:
    """Return the finding about parameters that began alike and are not kept the same."""
    return rule.finding(
        first_step=fact.iteration,
        severity="warning",
        parameters=names,
        evidence=(
            Evidence("differing_parameters", names[0], fact.iteration, float(len(names)), 0.0),
        ),
        cause=say(
            "{name} began with the same weights on all ranks, but its gradient is different on "
            "each of them, while those of {same} other {same:parameter|parameters} are the same "
            "({num} {num:parameter|parameters}): "
            "they are left out of the reduction, or they are experts or shards that every rank "
            "has initialized with the same seed",
            name=names[0],
            num=len(names),
            same=int(fact.number("same")),
        ),
        advice=say(
            "if every rank should hold the same, reduce their gradients too; if they are experts, "
            "mark them with parameter.allreduce = False and give every rank a seed of its own"
        ),
        excerpt="dist.all_reduce(parameter.grad, op=dist.ReduceOp.AVG)",
    )


def _ambiguous(rule: Rule, fact: Fact) -> Finding:
    """Return the finding about processes that have nothing in common but the names."""
    num = int(fact.number("separate"))
    return rule.finding(
        first_step=fact.iteration,
        severity="info",
        evidence=(Evidence("differing_parameters", "", fact.iteration, float(num), 0.0),),
        cause=say(
            "all {num} {num:parameter is|parameters are} different on each rank: they are shards "
            "or stages of one "
            "model, since the ranks exchange activations, or replicas that nothing keeps in sync",
            num=num,
        ),
        advice=say(
            "nothing to change if they are shards or stages; wrap the model in "
            "DistributedDataParallel if they are replicas"
        ),
        excerpt="model = DistributedDataParallel(model)",
    )
