"""Parameters with a gradient that the clips of an optimizer's step do not cover."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from seismograd.diagnosis.rule import Explanation
from seismograd.i18n import say
from seismograd.schema import Fact, FloatArray, RowBatch


@dataclass(slots=True)
class LargeRest:
    """The steps in which what the clips of one optimizer leave out had a norm above their limit;
    `fact`, `norm` and `limit` are those of the last.
    """

    fact: Fact
    first: int
    num: int = 0
    norm: float = math.nan
    limit: float = math.nan

    @property
    def num_covered(self) -> int:
        """Return how many parameters of the optimizer the clip covers."""
        return self.num_held - int(self.fact.number("num"))

    @property
    def num_held(self) -> int:
        """Return how many parameters the optimizer updates."""
        return int(self.fact.number("held"))

    def explanation(self, step: int) -> Explanation:
        """Return cause, advice and excerpt, as they are at this step."""
        return (
            say(
                "the clip covers {covered} of the {held} {held:parameter|parameters} that the "
                "optimizer updates; those that it leaves out (first {name}) have a norm of "
                "{missing} at step {step}, above the limit of {limit:g}",
                covered=self.num_covered,
                held=self.num_held,
                name=self.fact.parameters[0],
                missing=f"{self.norm:.3g}",
                step=step,
                limit=self.limit,
            ),
            say("clip all parameters that the optimizer has"),
            "torch.nn.utils.clip_grad_norm_(\n"
            '    [p for group in optimizer.param_groups for p in group["params"]], '
            f"{self.limit:g}\n)",
        )


@dataclass(slots=True)
class LeftOutParameters:
    """What is left out, by the facts of kind `CLIP_LEAVES_OUT`, and how large it was."""

    _facts: list[Fact] = field(default_factory=list[Fact])
    _large: dict[int, LargeRest] = field(default_factory=dict[int, LargeRest])

    def learn(self, fact: Fact) -> None:
        """Take a fact."""
        self._facts.append(fact)

    def names(self, iteration: int) -> frozenset[str]:
        """Return the names of those that were left out in an iteration."""
        return frozenset(name for fact in self._known(iteration) for name in fact.parameters)

    def look(
        self, block: RowBatch, iteration: int, norms: FloatArray, limit: float
    ) -> Iterator[LargeRest]:
        """Yield what has a norm above the limit in this iteration; `norms` are those of the
        gradients  # (P,).
        """
        for fact in self._known(iteration):
            known = [c for c, p in enumerate(block.parameters) if p.name in fact.parameters]
            norm = math.hypot(*norms[known].tolist())
            if not known or norm <= limit:
                continue
            rest = self._large.setdefault(fact.optimizer, LargeRest(fact, iteration))
            rest.fact, rest.norm, rest.limit = fact, norm, limit
            rest.num += 1
            yield rest

    def _known(self, iteration: int) -> list[Fact]:
        """Return the latest fact about each optimizer."""
        return list({f.optimizer: f for f in self._facts if f.iteration <= iteration}.values())
