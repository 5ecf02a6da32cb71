"""Describe a loss that an exponential of the forward pass has made far too large."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from seismograd.analysis.block_rows import largest_parameters
from seismograd.i18n import Message, say
from seismograd.rules.sg102.explosion import Explosion, ExplosionLimits, OptimizerRows, slow_down
from seismograd.schema import Evidence, Fact


def of_an_exponential(look: OptimizerRows, fact: Fact) -> Explosion | None:
    """Detect a loss that an exponential alone has made this large, in the iteration of the fact."""
    at = np.flatnonzero(look.steps == fact.iteration)
    limits = look.limits
    if not len(at) or not fact.number("largest") >= limits.min_exponential:
        return None
    names = fact.parameters or largest_parameters(look.block, int(look.rows[at[0]]))
    found = Explosion(
        int(at[0]), fact.iteration, names, (), Message(""), slow_down(), limits.min_norm
    )
    return explained(found, fact, limits)


def explained(found: Explosion, fact: Fact, limits: ExplosionLimits) -> Explosion:
    """Return an explosion whose cause is the exponential of this fact."""
    step, largest = fact.iteration, fact.number("largest")
    values: dict[str, str | int | float] = {
        "step": step,
        "operation": fact.text("operation"),
        "largest": largest,
        "loss": fact.number("loss"),
        "parameter": fact.parameters[0] if fact.parameters else "",
    }
    if fact.parameters:
        cause = say(
            "at step {step} {operation} of what {parameter} computes gives {largest:.2g}, and the "
            "loss is {loss:.2g}",
            **values,
        )
    else:
        cause = say(
            "at step {step} {operation} in the forward pass gives {largest:.2g}, and the loss is "
            "{loss:.2g}",
            **values,
        )
    advice = say(
        "limit what goes into {operation} with clamp, use softplus in its place, or normalise the "
        "inputs; a lower learning rate does not help",
        **values,
    )
    return replace(
        found,
        first_step=min(found.first_step, step),
        evidence=(
            Evidence(
                "exponential", str(values["parameter"]), step, largest, limits.min_exponential
            ),
            *found.evidence,
        ),
        cause=cause,
        cure=(advice, "std = torch.exp(0.5 * log_var.clamp(-10, 10))"),
        where=fact.where,
        least_total=None,
    )
