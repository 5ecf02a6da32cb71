"""SG110 symmetric-units."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, final

from seismograd.analysis.script_names import initialised_of
from seismograd.diagnosis.fact_rule import FactRule
from seismograd.i18n import say
from seismograd.schema import Evidence, Fact, FactKind


@final
@dataclass
class SymmetricUnits(FactRule):
    """All units of a layer are identical, get identical gradients, and stay identical.

    What it finds
        Layers initialised with a single constant: all rows of the weight are equal, and so are all
        rows of its gradient.

    Why it hurts
        Units that start equal and get equal gradients stay equal. A layer with a thousand such
        units can compute no more than a layer with one.

    How it decides
        At {looks} of the first steps, all rows of a weight are exactly equal, and so are all rows
        of its gradient, which is not zero. Weights with fewer than three rows do not count.

    False alarms
        Dropout makes the units differ in the end, but far more slowly than random initialisation.

    What to try
        - Keep the layer's default initialisation, or use `nn.init.kaiming_normal_`.
        - Use zeros only for biases, for the last layer, or for one factor of a low-rank adapter.

    References
        - Goodfellow, Bengio, Courville (2016), Deep learning, section on parameter initialization.
        - Glorot, Bengio (2010), Understanding the difficulty of training deep feedforward neural
          networks.
    """

    code: ClassVar[str] = "SG110"
    name: ClassVar[str] = "symmetric-units"
    severity: ClassVar[str] = "error"
    needs: ClassVar[tuple[str, ...]] = ()
    needs_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.SYMMETRIC,)
    absorbs: ClassVar[tuple[str, ...]] = ("SG101", "SG102", "SG104", "SG107", "SG108")

    min_evaluated: int = 10  # steps
    looks: int = 2

    _reported: dict[int, list[Fact]] = field(
        default_factory=dict[int, "list[Fact]"], init=False, repr=False
    )

    def judge(self, fact: Fact) -> None:
        facts = self._reported.setdefault(fact.optimizer, [])
        facts.append(fact)
        always = [
            name for name in fact.parameters if all(name in each.parameters for each in facts)
        ]
        if len(facts) < self.looks or not always:
            return
        rows = fact.number("rows")
        values: dict[str, str | int | float] = {
            "parameter": always[0],
            "num": len(always),
            "rows": int(rows),
            "step": fact.iteration,
        }
        cause = (
            say(
                "all {rows} rows of {parameter} are equal, and so are the rows of its gradient, "
                "still at step {step}: its units compute the same and stay the same",
                **values,
            )
            if len(always) == 1
            else say(
                "in {num} weights, {parameter} the first, all rows are equal, and so are the rows "
                "of their gradients, still at step {step}: their units compute the same and stay "
                "the same",
                **values,
            )
        )
        finding = self.finding(
            optimizer=fact.optimizer,
            first_step=0,
            last_step=fact.iteration,
            parameters=tuple(always),
            evidence=(Evidence("equal_rows", always[0], fact.iteration, rows, 1.0),),
            cause=cause,
            advice=say(
                "initialise {parameter} with random numbers, as nn.Linear and nn.Conv2d do by "
                "default",
                **values,
            ),
            where=fact.where,
            excerpt=initialised_of(
                facts[0].text("equal").split(",") if facts[0].text("equal") else always,
                fact.text("model"),
            ),
        )
        self.found.add(finding)
