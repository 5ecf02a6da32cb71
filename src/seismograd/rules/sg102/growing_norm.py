"""Detect a gradient that grows from step to step while the loss does not fall, or falls without a
limit.
"""

from __future__ import annotations

import math

import numpy as np

from seismograd.analysis.block_rows import largest_parameters, numbers
from seismograd.analysis.norm_growth import NormGrowth
from seismograd.i18n import Message, say
from seismograd.rules.sg102.explosion import (
    Cure,
    Explosion,
    ExplosionTrack,
    OptimizerRows,
    slow_down,
)
from seismograd.schema import Evidence


def from_step_to_step(track: ExplosionTrack, look: OptimizerRows) -> Explosion | None:
    """Detect that the norm stays far above its baseline and the loss does not fall."""
    finite = np.flatnonzero(np.isfinite(look.norm))
    factor = None if track.is_found else look.limits.min_growth
    grown = track.series.add(
        look.norm[finite],
        numbers(look.block.steps, "loss")[look.rows[finite]],
        look.steps[finite],
        factor,
    )
    if grown is None:
        return None
    position, limit = int(finite[grown.index]), look.limits.min_growth * grown.baseline
    evidence = [Evidence("grad_norm", "", grown.step, grown.norm, limit)]
    if math.isfinite(grown.loss_baseline) and not math.isnan(grown.loss):
        evidence.append(Evidence("loss", "", grown.step, grown.loss, grown.loss_baseline))
    cause = (
        _without_limit(grown)
        if grown.is_unbounded
        else say(
            "the gradient norm grew from about {baseline:.2g} to {norm:.2g} at step {step}, "
            "{times:.1g} times as large, while the loss did not fall: each update makes the next "
            "gradient larger",
            baseline=grown.baseline,
            norm=grown.norm,
            step=grown.step,
            times=grown.norm / grown.baseline,
        )
    )
    largest = largest_parameters(look.block, int(look.rows[position]))
    cure = _bounded() if grown.is_unbounded else slow_down()
    return Explosion(
        position,
        grown.first_step,
        largest,
        tuple(evidence),
        cause,
        cure,
        limit,
        own_cause=grown.is_unbounded,
    )


def _without_limit(grown: NormGrowth) -> Message:
    return say(
        "the loss falls without a limit, from {first:.4g} to {loss:.4g} at step {step}, and the "
        "gradient norm grew from about {baseline:.2g} to {norm:.2g}: some term of the loss has no "
        "smallest value, probably because its sign is wrong",
        first=grown.loss_baseline,
        loss=grown.loss,
        step=grown.step,
        baseline=grown.baseline,
        norm=grown.norm,
    )


def _bounded() -> Cure:
    return (
        say(
            "check the sign of each term: a distance, an error or a divergence is added, a "
            "log-likelihood, a reward or an entropy is subtracted; print the terms one by one to "
            "see which of them falls"
        ),
        "kl = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(1).mean()  # never below 0",
    )
