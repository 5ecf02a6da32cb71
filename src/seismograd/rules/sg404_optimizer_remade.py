"""SG404 optimizer-remade."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import Evidence, Fact, FactKind, Finding, RowBatch


@final
@dataclass
class OptimizerRemade(Rule):
    """A new optimizer is made over the same parameters again and again.

    What it finds
        Optimizers of one class over the same parameters, one in place of the other, each of which
        makes only a few steps: made within the function that trains a batch or an epoch.

    Why it hurts
        What an optimizer remembers is lost each time. Adam begins with averages of nothing, so that
        its first steps are as long as the learning rate in every scalar, however small the
        gradient; momentum never builds up; a scheduler keeps the old one.

    How it decides
        At least {min_made} optimizers of one class have held the same parameters, each after the
        one before was gone, and made at most {max_life:g} steps on average. SGD without momentum
        remembers nothing and does not count.

    False alarms
        A training that begins anew in phases on purpose, with fewer steps in each than that.

    What to try
        - Make the optimizer once, before the loop, and hand it to the function that trains.
        - To begin a phase with another learning rate, set `group["lr"]` in `param_groups`.
        - To take in new parameters, call `add_param_group`.

    References
        - PyTorch documentation, torch.optim: constructing it.
        - Kingma, Ba (2015), Adam: initialisation bias correction.
    """

    code: ClassVar[str] = "SG404"
    name: ClassVar[str] = "optimizer-remade"
    severity: ClassVar[str] = "warning"
    needs: ClassVar[tuple[str, ...]] = ()
    needs_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.OPTIMIZER_REMADE,)
    absorbs: ClassVar[tuple[str, ...]] = ("SG103", "SG106", "SG107", "SG108")

    min_made: int = 4
    max_life: float = 200.0  # steps
    min_evaluated: int = 5  # steps

    _num_rows: int = field(default=0, init=False, repr=False)
    _findings: dict[int, Finding] = field(
        default_factory=dict[int, Finding], init=False, repr=False
    )

    def observe(self, block: RowBatch) -> Iterable[Finding]:
        self._num_rows += len(block)
        return ()

    def learn(self, fact: Fact) -> Iterable[Finding]:
        made, life = fact.number("made"), fact.number("life")
        if fact.kind != FactKind.OPTIMIZER_REMADE:
            return ()
        known = self._findings.get(fact.optimizer)
        if known is not None:
            known = replace(known, last_step=fact.iteration)
        elif made >= self.min_made and life <= self.max_life:
            known = self._found(fact, made, life)
        else:
            return ()
        self._findings[fact.optimizer] = known
        return (known,)

    def _found(self, fact: Fact, made: float, life: float) -> Finding:
        values: dict[str, str | int | float] = {
            "made": int(made),
            "kind": fact.text("class_name"),
            "step": fact.iteration,
            "life": round(life),
            "line": fact.where or "?",
        }
        return Finding(
            code=self.code,
            name=self.name,
            severity=self.severity,
            optimizer=fact.optimizer,
            first_step=0,
            last_step=fact.iteration,
            parameters=(),
            evidence=(Evidence("optimizers", "", fact.iteration, made, float(self.min_made)),),
            cause=say(
                "by step {step}, {made} optimizers ({kind}) were made over the same parameters, "
                "one for every {life} steps (stepped at {line}): momentum and the averages of Adam "
                "begin from nothing each time",
                **values,
            )
            if round(life) > 1
            else say(
                "by step {step}, {made} optimizers ({kind}) were made over the same parameters, "
                "a new one for each step (at {line}): momentum and the averages of Adam begin from "
                "nothing each time",
                **values,
            ),
            advice=say(
                "make the optimizer once, before the loop, and hand it to the function that trains"
            ),
            where=fact.where,
            excerpt=f"optimizer = torch.optim.{values['kind']}(model.parameters(), lr=lr)\n"
            "for batch in loader:\n    train_batch(model, optimizer, batch)",
        )

    def shortfall(self) -> Message | None:
        if self._num_rows < self.min_evaluated:
            return say(
                "needs {needed} steps, has {has}", needed=self.min_evaluated, has=self._num_rows
            )
        return None
