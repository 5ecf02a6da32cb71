"""SG406 parameter-remade."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import Evidence, Fact, FactKind, Finding, RowBatch


@final
@dataclass
class ParameterRemade(Rule):
    """Parameters are made anew in every forward pass, so that they never learn.

    What it finds
        Layers or parameters that `forward` makes, as with `nn.Linear(...)(x)` or
        `nn.Parameter(...)` within it: they have gradients, and no optimizer has them.

    Why it hurts
        Each batch passes through new random weights. The optimizer was given those that there were
        when it was made, and what it learns goes through noise.

    How it decides
        The graphs of some of the first backwards hold parameters that no optimizer has, next to
        others that one has; they have the same shapes each time, and those of the time before are
        gone. So it was at {min_times} looks in a row after the first.

    False alarms
        Random weights that are meant, as a projection that changes with each batch.

    What to try
        - Make layers and parameters in `__init__`, as attributes of the module, and only use them
          in `forward`.
        - Where sizes are known only in `forward`, take `nn.LazyLinear` and its kin.

    References
        - PyTorch documentation, torch.nn.Module and torch.nn.LazyLinear.
    """

    code: ClassVar[str] = "SG406"
    name: ClassVar[str] = "parameter-remade"
    severity: ClassVar[str] = "error"
    needs: ClassVar[tuple[str, ...]] = ()
    needs_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.PARAMETER_REMADE,)
    absorbs: ClassVar[tuple[str, ...]] = ("SG401", "SG402", "SG108")

    min_times: int = 2
    min_evaluated: int = 5  # steps

    _num_rows: int = field(default=0, init=False, repr=False)
    _findings: dict[int, Finding] = field(
        default_factory=dict[int, Finding], init=False, repr=False
    )

    def observe(self, block: RowBatch) -> Iterable[Finding]:
        self._num_rows += len(block)
        return ()

    def learn(self, fact: Fact) -> Iterable[Finding]:
        if fact.kind != FactKind.PARAMETER_REMADE:
            return ()
        times = fact.number("times")
        known = self._findings.get(-1)
        if known is not None:
            known = replace(known, last_step=fact.iteration)
        elif times >= self.min_times:
            known = self._found(fact, times)
        else:
            return ()
        self._findings[-1] = known
        return (known,)

    def _found(self, fact: Fact, times: float) -> Finding:
        values: dict[str, str | int | float] = {
            "num": int(fact.number("num")),
            "shape": fact.text("shape"),
            "line": fact.where or "?",
        }
        return Finding(
            code=self.code,
            name=self.name,
            severity=self.severity,
            optimizer=-1,
            first_step=0,
            last_step=fact.iteration,
            parameters=(),
            evidence=(Evidence("backwards", "", fact.iteration, times, 1.0),),
            cause=say(
                "{num} parameters in the graph of the loss at {line}, the first of shape {shape}, "
                "are other ones at every step, and no optimizer has them: they are made in the "
                "forward pass",
                **values,
            )
            if values["num"] != 1
            else say(
                "a parameter of shape {shape} in the graph of the loss at {line} is another one "
                "at every step, and no optimizer has it: it is made in the forward pass",
                **values,
            ),
            advice=say(
                "make it once, in __init__, as an attribute of the module, and only use it in "
                "forward"
            ),
            where=fact.text("made") or fact.where,
            excerpt="def __init__(self):\n    super().__init__()\n"
            "    self.head = nn.Linear(width, classes)",
        )

    def shortfall(self) -> Message | None:
        if self._num_rows < self.min_evaluated:
            return say(
                "needs {needed} steps, has {has}", needed=self.min_evaluated, has=self._num_rows
            )
        return None
