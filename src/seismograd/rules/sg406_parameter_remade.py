"""SG406 parameter-remade."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from seismograd.diagnosis.fact_rule import FactRule
from seismograd.i18n import say
from seismograd.schema import Evidence, Fact, FactKind


@final
@dataclass
class ParameterRemade(FactRule):
    """The forward pass creates new parameters each time, so they never learn.

    What it finds
        Layers or parameters that `forward` creates, as with `nn.Linear(...)(x)` or
        `nn.Parameter(...)`: they get gradients, but no optimizer holds them.

    Why it hurts
        Each batch goes through new random weights. What the optimizer learns has to pass through
        this noise.

    How it decides
        The rule looks at the graphs of some of the first backward passes. They contain parameters
        that no optimizer holds, beside others that one does; the shapes are the same each time, and
        the tensors of the time before are gone. It must be so {min_times} times in a row after the
        first.

    False alarms
        Weights that are meant to be random, such as a projection that changes with each batch.

    What to try
        - Create layers and parameters in `__init__`, as attributes of the module, and only use them
          in `forward`.
        - If a size is known only in `forward`, use `nn.LazyLinear` or another lazy module.

    References
        - PyTorch documentation, torch.nn.Module and torch.nn.LazyLinear.
    """

    code: ClassVar[str] = "SG406"
    name: ClassVar[str] = "parameter-remade"
    severity: ClassVar[str] = "error"
    needs_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.PARAMETER_REMADE,)
    absorbs: ClassVar[tuple[str, ...]] = ("SG401", "SG402", "SG108")

    min_times: int = 2

    def judge(self, fact: Fact) -> None:
        times = fact.number("times")
        # copies of what an optimizer holds are SG401
        if times < self.min_times or fact.number("copies") == 1:
            return
        cause = say(
            "backward at {line} reaches {num} {num:parameter|parameters} of shape {shape} "
            "{num:|and others }that {num:is a new tensor|are new tensors} at each step and "
            "{num:belongs|belong} to no optimizer: the forward pass creates {num:it|them}",
            num=int(fact.number("num")),
            shape=fact.text("shape"),
            line=fact.where or "?",
        )
        self.found.add_or_extend(
            self.finding(
                cause,
                say(
                    "create it once, in __init__, as an attribute of the module, and only use it "
                    "in forward"
                ),
                "def __init__(self):\n    super().__init__()\n"
                "    self.head = nn.Linear(width, classes)",
                first_step=0,
                last_step=fact.iteration,
                evidence=(Evidence("backwards", "", fact.iteration, times, 1.0),),
                where=fact.text("made") or fact.where,
            )
        )
