"""SG405 in-two-optimizers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import Evidence, Fact, FactKind, Finding, RowBatch


@final
@dataclass
class InTwoOptimizers(Rule):
    """Two optimizers step on the same gradient of the same parameters.

    What it finds
        Parameters that two optimizers hold, each of which steps on them with one and the same
        gradient: a shared encoder in the parameter lists of two heads, or a second optimizer made
        over a model instead of over its new part.

    Why it hurts
        Each gradient moves these weights twice, with two learning rates and two memories that know
        nothing of each other. It looks like a learning rate that is too high, and weight decay
        counts twice.

    How it decides
        At the step of an optimizer the gradient of a parameter is the tensor, unchanged since, on
        which another optimizer has stepped, at {min_times} steps at least. An optimizer that steps
        another one within its own step, such as Lookahead, does not count.

    False alarms
        None are known.

    What to try
        - Give each parameter to one optimizer, with groups for other learning rates.
        - Compare `set(map(id, first.param_groups[0]['params']))` with that
          of the second.

    References
        - PyTorch documentation, torch.optim: per-parameter options.
    """

    code: ClassVar[str] = "SG405"
    name: ClassVar[str] = "in-two-optimizers"
    severity: ClassVar[str] = "error"
    needs: ClassVar[tuple[str, ...]] = ()
    needs_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.IN_TWO_OPTIMIZERS,)
    absorbs: ClassVar[tuple[str, ...]] = ("SG103", "SG107", "SG303")

    min_times: int = 3
    min_evaluated: int = 5  # steps

    _num_rows: int = field(default=0, init=False, repr=False)
    _findings: dict[int, Finding] = field(
        default_factory=dict[int, Finding], init=False, repr=False
    )

    def observe(self, block: RowBatch) -> Iterable[Finding]:
        self._num_rows += len(block)
        return ()

    def learn(self, fact: Fact) -> Iterable[Finding]:
        times = fact.number("times")
        if fact.kind != FactKind.IN_TWO_OPTIMIZERS or times < self.min_times:
            return ()
        known = self._findings.get(fact.optimizer)
        self._findings[fact.optimizer] = (
            self._found(fact, times) if known is None else replace(known, last_step=fact.iteration)
        )
        return (self._findings[fact.optimizer],)

    def _found(self, fact: Fact, times: float) -> Finding:
        values: dict[str, str | int | float] = {
            "first": fact.text("first"),
            "second": fact.text("second"),
            "num": int(fact.number("num")),
            "parameter": fact.parameters[0] if fact.parameters else "?",
            "line": fact.where or "?",
            "times": int(times),
        }
        return Finding(
            code=self.code,
            name=self.name,
            severity=self.severity,
            optimizer=-1,
            first_step=0,
            last_step=fact.iteration,
            parameters=fact.parameters,
            evidence=(Evidence("steps", str(values["parameter"]), fact.iteration, times, 0.0),),
            cause=say(
                "{first} and {second} both hold {parameter} and {num} parameters in all, and "
                "{second} steps at {line} on the very gradients on which {first} has stepped: "
                "these weights move twice for each gradient",
                **values,
            )
            if values["num"] != 1
            else say(
                "{first} and {second} both hold {parameter}, and {second} steps at {line} on the "
                "very gradient on which {first} has stepped: this weight moves twice for each "
                "gradient",
                **values,
            ),
            advice=say("leave these parameters out of {first} or of {second}", **values),
            where=fact.where,
            excerpt="print({id(p) for g in first.param_groups for p in g['params']}\n"
            "    & {id(p) for g in second.param_groups for p in g['params']})",
        )

    def shortfall(self) -> Message | None:
        if self._num_rows < self.min_evaluated:
            return say(
                "needs {needed} steps, has {has}", needed=self.min_evaluated, has=self._num_rows
            )
        return None
