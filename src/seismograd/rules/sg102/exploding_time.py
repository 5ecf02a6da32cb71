"""Describe a gradient that explodes on its way back through time."""

from __future__ import annotations

from collections.abc import Sequence

from seismograd.diagnosis.rule import Rule
from seismograd.i18n import say
from seismograd.schema import Evidence, Fact, Finding


def exploding_time_finding(rule: Rule, shown: Sequence[Fact], max_gain: float) -> Finding:
    """Return the finding about a recurrent weight, from the measurements that show it."""
    fact = shown[-1]
    name, step, total = fact.parameters[0], fact.iteration, fact.number("total")
    return rule.finding(
        optimizer=fact.optimizer,
        first_step=shown[0].iteration,
        last_step=step,
        parameters=(name,),
        evidence=(Evidence("gain_through_time", name, step, total, max_gain),),
        cause=say(
            "each step back in time multiplies the gradient by {gain:.3g}: at the first of "
            "{steps} steps of a sequence it is {total:.2g} times as large as at the last "
            "({parameter})",
            gain=fact.number("gain"),
            steps=int(fact.number("steps")),
            total=total,
            parameter=name,
        ),
        advice=say(
            "initialise the recurrent weight with nn.init.orthogonal_, use nn.LSTM or nn.GRU in "
            "place of a plain recurrence, and clip the gradient between backward and step"
        ),
        where=fact.where,
        seen_only=True,
        excerpt=f"nn.init.orthogonal_(model.{name})",
    )
