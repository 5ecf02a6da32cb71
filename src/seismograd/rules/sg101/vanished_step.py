"""Describe a step at which the gradient vanishes on its way back through the layers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seismograd.analysis.block_rows import BoolArray, as_list, site_of
from seismograd.analysis.depth_profile import DepthProfiles, LayerNorms, ProfileLayers
from seismograd.analysis.recent_hits import RecentHits
from seismograd.i18n import Message, say
from seismograd.schema import EventKind, IntArray, RowBatch


@dataclass(frozen=True, slots=True)
class VanishedStep:
    """One step at which the gradient had vanished, in numbers."""

    step: int
    first: str  # the tensor that holds most of the gradient of the first layer
    last: str
    first_norm: float
    last_norm: float
    gain: float
    total_gain: float
    goodness: float
    num_passed: int  # layers between the last and the first that is not zero
    num_zero: int
    starved: tuple[str, ...]
    where: str  # the step of the optimizer


@dataclass(slots=True)
class VanishingTrack:
    """The state of one optimizer."""

    steep: RecentHits
    slow: RecentHits
    # of the step at which it was found, until then of the last one that showed it
    witness: VanishedStep | None = None
    first: int | None = None
    last: int = -1
    recovered: bool = False


@dataclass(frozen=True, slots=True)
class Chain:
    """One chain of layers in all rows of a block: where its gradient vanishes, and where it does so
    within a few layers.
    """

    norm: LayerNorms
    profile: DepthProfiles
    layers: ProfileLayers
    shown: BoolArray
    steep: BoolArray


@dataclass(frozen=True, slots=True)
class ProfiledRows:
    """The rows of one optimizer in a block, and what was seen in them."""

    rows: IntArray
    steps: IntArray
    chains: list[Chain]
    block: RowBatch


def witness_of(looked: ProfiledRows, index: int, starved_below: float) -> VanishedStep:
    """Return in numbers what this row shows, in the chain where it is steepest."""
    row = int(looked.rows[index])
    chain = next((each for each in looked.chains if each.steep[row]), None) or next(
        each for each in looked.chains if each.shown[row]
    )
    norm, profile = chain.norm.combined[row], chain.profile
    # leading zeros count, idle ones in between do not
    there = np.flatnonzero((norm > 0) | ((norm == 0) & (np.cumsum(norm > 0) == 0)))
    first, last = int(there[0]), int(there[-1])
    first_tensor, last_tensor = (
        chain.norm.larger(chain.layers, row, layer) for layer in (first, last)
    )
    starved = there[norm[there] <= max(starved_below * float(norm[last]), float(norm[first]))]
    return VanishedStep(
        step=int(looked.steps[index]),
        first=first_tensor[0],
        last=last_tensor[0],
        first_norm=first_tensor[1],
        last_norm=last_tensor[1],
        gain=float(profile.gain[row]),
        total_gain=float(profile.total_gain[row]),
        goodness=float(profile.goodness[row]),
        num_passed=int(profile.num_layers[row]) - 1,
        num_zero=int(profile.leading_zeros[row]),
        starved=tuple(chain.layers.names[layer] for layer in as_list(starved)),
        where=site_of(looked.block, EventKind.STEP, int(looked.steps[index])),
    )


def cause_of(seen: VanishedStep, track: VanishingTrack) -> Message:
    """Return the cause in words."""
    values: dict[str, str | int | float] = {
        "layers": seen.num_passed,
        "gain": seen.gain,
        "total": seen.first_norm / seen.last_norm,
        "parameter": seen.first,
        "step": track.last,
        "zeros": seen.num_zero,
    }
    if track.recovered:
        return say(
            "each of the {layers} layers multiplied the gradient by {gain:.2g}, and {total:.2g} of "
            "it was left at {parameter}; after step {step} the network recovered",
            **values,
        )
    if seen.num_zero:
        return say(
            "each layer multiplies the gradient by {gain:.2g}, and after {layers} layers nothing "
            "is left: the gradient is exactly zero in the first layers, from {parameter} on "
            "(layers with zero gradient: {zeros})",
            **values,
        )
    return say(
        "each of the {layers} layers multiplies the gradient by {gain:.2g}; {total:.2g} of it is "
        "left at {parameter}",
        **values,
    )
