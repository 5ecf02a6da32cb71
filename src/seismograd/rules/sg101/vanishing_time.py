"""Describe a gradient that vanishes on its way back through time."""

from __future__ import annotations

from collections.abc import Sequence

from seismograd.analysis.loss_level import LossLevel
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import say
from seismograd.schema import Evidence, Fact, Finding


def vanishing_time_finding(
    rule: Rule, shown: Sequence[Fact], loss: LossLevel, max_gain: float
) -> Finding:
    """Return the finding about a recurrent weight, from the measurements that show it."""
    fact = shown[-1]
    name, step, total = fact.parameters[0], fact.iteration, fact.number("total")
    return rule.finding(
        optimizer=fact.optimizer,
        first_step=shown[0].iteration,
        last_step=step,
        parameters=(name,),
        evidence=(
            Evidence("gain_through_time", name, step, total, max_gain),
            Evidence("loss", "", step, loss.now, loss.at_first),
        ),
        cause=say(
            "each step back in time multiplies the gradient by {gain:.2g}: of a sequence of "
            "{steps} steps, {total:.2g} of it is left at the first ({parameter}), so nothing is "
            "learned from there, and the loss stays at {loss:.3g}",
            gain=fact.number("gain"),
            steps=int(fact.number("steps")),
            total=total,
            parameter=name,
            loss=loss.now,
        ),
        advice=say(
            "use nn.LSTM or nn.GRU in place of a plain recurrence, initialise the recurrent weight "
            "with nn.init.orthogonal_, or let the loss see the outputs of all steps"
        ),
        where=fact.where,
        seen_only=True,
        excerpt=f"nn.init.orthogonal_(model.{name})",
    )
