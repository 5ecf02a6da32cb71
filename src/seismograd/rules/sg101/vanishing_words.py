"""Describe in words a gradient that vanishes on its way back through the layers."""

from __future__ import annotations

from seismograd.analysis.signal_split import SignalSplit
from seismograd.analysis.split_words import (
    advice_of,
    cause_of,
    excerpt_of,
    factors,
    signal_evidence,
)
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.rules.sg101.vanished_step import VanishedStep, VanishingLimits, VanishingTrack
from seismograd.schema import Evidence, Finding

_GENERAL_EXCERPT = "nn.Linear(width, width), nn.LayerNorm(width), nn.ReLU()"


def vanishing_finding(
    rule: Rule, limits: VanishingLimits, track: VanishingTrack, optimizer: int
) -> Finding:
    """Return the finding about the layers of an optimizer."""
    seen = track.witness
    assert seen is not None
    assert track.first is not None
    split = None if track.recovered else track.split.up_to(track.last)
    return rule.finding(
        severity="info" if track.recovered else "error" if seen.num_zero else rule.severity,
        optimizer=optimizer,
        first_step=track.first,
        last_step=track.last,
        parameters=seen.starved,
        evidence=(
            Evidence(
                "grad_norm",
                seen.first,
                seen.step,
                seen.first_norm,
                limits.max_total_gain * seen.last_norm,
            ),
            Evidence(
                "grad_norm",
                seen.last,
                seen.step,
                seen.last_norm,
                seen.first_norm / limits.max_total_gain,
            ),
            Evidence("line_gain", "", seen.step, seen.gain, limits.max_gain),
            Evidence(
                "line_total",
                "",
                seen.step,
                seen.total_gain,
                limits.max_visible_gain if seen.num_zero else limits.max_total_gain,
            ),
            Evidence("line_fit", "", seen.step, seen.goodness, limits.min_goodness),
            *signal_evidence(split, limits.max_gain),
        ),
        cause=_cause(seen, track) if split is None else _cause_by_split(seen, split),
        advice=_general_advice() if split is None else _advice_by_split(split),
        where=seen.where,
        seen_only=True,
        excerpt=_GENERAL_EXCERPT if split is None else excerpt_of(split),
    )


def _general_advice() -> Message:
    return say(
        "make it easier for the gradient to get through: use ReLU or GELU instead of "
        "sigmoid or tanh, with nn.init.kaiming_normal_ for the weights; add a "
        "normalisation layer after each layer; or add residual connections, x = x + "
        "block(x). A larger learning rate does not help the first layers"
    )


def _advice_by_split(split: SignalSplit) -> Message:
    return say(
        "{advice}. A larger learning rate does not help the first layers", advice=advice_of(split)
    )


def _cause_by_split(seen: VanishedStep, split: SignalSplit) -> Message:
    if not seen.num_zero:
        return cause_of(split)
    return say(
        "each of {layers} layers multiplies the signal by {gain:.2g}: {factors}; the gradient is "
        "exactly zero in the first layers, from {parameter} on (layers with zero gradient: "
        "{zeros})",
        layers=split.num_layers,
        gain=split.gain,
        factors=factors(split),
        parameter=seen.first,
        zeros=seen.num_zero,
    )


def _cause(seen: VanishedStep, track: VanishingTrack) -> Message:
    ends = seen.ends
    values: dict[str, str | int | float] = {
        "layers": ends.num_passed,
        "gain": ends.gain,
        "last": ends.last,
        "last_norm": ends.last_norm,
        "first": ends.first,
        "first_norm": ends.first_norm,
    }
    if track.recovered:
        return say(
            "each of the {layers} layers multiplied the gradient by {gain:.2g} on average: its "
            "norm was {last_norm:.3g} at {last} and {first_norm:.3g} at {first}; after step {step} "
            "the network recovered",
            step=track.last,
            **values,
        )
    if seen.num_zero:
        return say(
            "each layer multiplies the gradient by {gain:.2g}, and after {layers} layers nothing "
            "is left: the gradient is exactly zero in the first layers, from {parameter} on "
            "(layers with zero gradient: {zeros})",
            layers=seen.num_passed,
            gain=seen.gain,
            parameter=seen.first,
            zeros=seen.num_zero,
        )
    return say(
        "each of the {layers} layers multiplies the gradient by {gain:.2g} on average: its norm is "
        "{last_norm:.3g} at {last} and {first_norm:.3g} at {first}",
        **values,
    )
