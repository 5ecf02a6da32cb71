"""SG110 symmetric-units."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, final

from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import Evidence, Fact, FactKind, Finding, RowBatch


@final
@dataclass
class SymmetricUnits(Rule):
    """All units of a layer are the same, get the same gradient, and stay the same.

    What it finds
        Layers that were initialised with one constant: every row of the weight is equal to every
        other, and so is every row of its gradient.

    Why it hurts
        A layer of a thousand such units is one unit. Nothing ever tells them apart, so the network
        learns what one of that width could.

    How it decides
        At {looks} of the first steps, all rows of a weight are equal to the last bit, and all rows
        of its gradient, which is not zero. Weights of fewer than three rows do not count.

    False alarms
        Dropout tells such units apart in the end; it takes far longer than random weights do.

    What to try
        - Leave the initialisation of the layer as it is, or take `nn.init.kaiming_normal_`.
        - Zeros are for biases, for the last layer, and for one factor of an adapter of low rank.

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
    absorbs: ClassVar[tuple[str, ...]] = ("SG101", "SG102", "SG107", "SG108")

    looks: int = 2
    min_evaluated: int = 10  # steps

    _num_rows: int = field(default=0, init=False, repr=False)
    _told: dict[int, list[Fact]] = field(
        default_factory=dict[int, "list[Fact]"], init=False, repr=False
    )

    def observe(self, block: RowBatch) -> Iterable[Finding]:
        self._num_rows += len(block)
        return ()

    def learn(self, fact: Fact) -> Iterable[Finding]:
        if fact.kind != FactKind.SYMMETRIC:
            return ()
        told = self._told.setdefault(fact.optimizer, [])
        told.append(fact)
        always = [name for name in fact.parameters if all(name in each.parameters for each in told)]
        if len(told) < self.looks or not always:
            return ()
        values: dict[str, str | int | float] = {
            "parameter": always[0],
            "num": len(always),
            "rows": int(fact.number("rows")),
            "step": fact.iteration,
        }
        cause = (
            say(
                "the {rows} rows of {parameter} are all equal, and so are those of its gradient, "
                "still at step {step}: its units do the same and will go on to",
                **values,
            )
            if len(always) == 1
            else say(
                "in {num} weights, {parameter} the first, all rows are equal, and so are those of "
                "their gradients, still at step {step}: their units do the same and will go on to",
                **values,
            )
        )
        return (
            Finding(
                code=self.code,
                name=self.name,
                severity=self.severity,
                optimizer=fact.optimizer,
                first_step=0,
                last_step=fact.iteration,
                parameters=tuple(always),
                evidence=(
                    Evidence("equal_rows", always[0], fact.iteration, fact.number("rows"), 1.0),
                ),
                cause=cause,
                advice=say(
                    "initialise {parameter} with random numbers, as nn.Linear and nn.Conv2d do by "
                    "themselves",
                    **values,
                ),
                where=fact.where,
                excerpt="nn.init.kaiming_normal_(layer.weight)",
            ),
        )

    def shortfall(self) -> Message | None:
        if self._num_rows < self.min_evaluated:
            return say(
                "needs {needed} steps, has {has}", needed=self.min_evaluated, has=self._num_rows
            )
        return None
