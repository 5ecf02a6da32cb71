"""SG405 in-two-optimizers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from seismograd.diagnosis.fact_rule import FactRule
from seismograd.i18n import Values, say
from seismograd.schema import Evidence, Fact, FactKind


@final
@dataclass
class InTwoOptimizers(FactRule):
    """Two optimizers step on the same gradient of the same parameters.

    What it finds
        Parameters that two optimizers hold and both update with one and the same gradient: a shared
        encoder that is in the parameter lists of two heads, or a second optimizer created over the
        whole model instead of only its new part.

    Why it hurts
        Each gradient updates these weights twice, with two learning rates and two optimizer states
        that know nothing of each other. It looks like a learning rate that is too high, and weight
        decay is applied twice.

    How it decides
        When an optimizer steps, the gradient of a parameter is the tensor, unchanged since, with
        which another optimizer has already stepped; this happened at least {min_times} times. An
        optimizer that calls another one inside its own step, such as Lookahead, does not count.

    False alarms
        None known.

    What to try
        - Give each parameter to one optimizer; use parameter groups for different learning rates.
        - To see what both hold, intersect the sets of `id(p)` over `param_groups` of both.

    References
        - PyTorch documentation, torch.optim: per-parameter options.
    """

    code: ClassVar[str] = "SG405"
    name: ClassVar[str] = "in-two-optimizers"
    severity: ClassVar[str] = "error"
    needs_facts: ClassVar[tuple[FactKind, ...]] = (FactKind.IN_TWO_OPTIMIZERS,)
    absorbs: ClassVar[tuple[str, ...]] = ("SG103", "SG107", "SG303")

    min_times: int = 3

    def judge(self, fact: Fact) -> None:
        times, parameter = fact.number("times"), next(iter(fact.parameters), "?")
        if times < self.min_times:
            return
        values: Values = {
            "first": fact.text("first"),
            "second": fact.text("second"),
            "num": int(fact.number("num")),
            "parameter": parameter,
            "line": fact.where or "?",
        }
        self.found.add_or_extend(
            self.finding(
                say(
                    "{first} and {second} both hold {parameter} ({num} "
                    "{num:parameter|parameters} in common); {second}.step() at {line} uses "
                    "gradients that {first} has already used, so each gradient updates "
                    "{num:this weight|these weights} twice",
                    **values,
                ),
                say("remove {num:it|them} from {first} or from {second}", **values),
                "print({id(p) for g in first.param_groups for p in g['params']}\n"
                "    & {id(p) for g in second.param_groups for p in g['params']})",
                first_step=0,
                last_step=fact.iteration,
                parameters=fact.parameters,
                evidence=(Evidence("steps", parameter, fact.iteration, times, 0.0),),
                where=fact.where,
            )
        )
