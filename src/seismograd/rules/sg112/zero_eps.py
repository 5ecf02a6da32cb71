"""Detect an optimizer whose eps is zero in the dtype of its weights, so that it divides by zero."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from seismograd.analysis.block_rows import as_list
from seismograd.analysis.known_settings import KnownSettings
from seismograd.analysis.shared_block import SharedBlock
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import say
from seismograd.schema import Evidence, Fact, Finding


def weights_with_zero_eps(
    block: SharedBlock, step: int, optimizer: int, settings: KnownSettings
) -> dict[str, Fact]:
    """Return the weights of an optimizer in float16 whose eps rounds to zero there, and the
    settings of each. A fused optimizer computes in single precision.
    """
    return {
        each.name: fact
        for each in (block.parameters[at] for at in as_list(block.held.in_float16[optimizer]))
        if (fact := settings.at(step, each)) is not None
        and fact.number("eps") > 0
        and not fact.number("fused")
        and np.float16(fact.number("eps")) == 0
    }


def zero_eps_finding(rule: Rule, half: Mapping[str, Fact], optimizer: int, step: int) -> Finding:
    """Return the finding about these weights."""
    name, fact = next(iter(half.items()))
    kind, eps = fact.text("class_name"), fact.number("eps")
    return rule.finding(
        severity="error",
        optimizer=optimizer,
        first_step=fact.iteration,
        last_step=step,
        parameters=tuple(half),
        evidence=(Evidence("eps", name, fact.iteration, 0.0, eps),),
        cause=say(
            "{kind} has eps={eps:g}, which rounds to 0 in float16, the dtype of {parameter}: a "
            "zero gradient gives 0/0, which is NaN, and the smallest gradient gives a step as "
            "large as any other",
            kind=kind,
            eps=eps,
            parameter=name,
        ),
        advice=say(
            "keep the weights in float32 and compute in float16 under autocast; otherwise set "
            "eps=1e-4"
        ),
        where=fact.where,
        excerpt=f"torch.optim.{kind}(model.float().parameters(), lr=lr)",
    )
