"""Detect a gradient that grows from layer to layer towards the input."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from seismograd.analysis.block_rows import as_list
from seismograd.analysis.depth_profile import EndNorms, LayeredBlock, end_norms, profiles
from seismograd.analysis.profile_layers import chains_of
from seismograd.i18n import say
from seismograd.rules.sg102.explosion import (
    BlockProfiles,
    Explosion,
    ExplosionLimits,
    ExplosionTrack,
    OptimizerRows,
    initialise,
)
from seismograd.schema import Evidence, RowBatch


def depths_of(
    limits: ExplosionLimits, chains: Sequence[LayeredBlock], signal_too: bool
) -> list[BlockProfiles]:
    """Return `depth_of` each chain of layers that has enough of them."""
    return [depth for chain in chains if (depth := depth_of(limits, chain, signal_too)) is not None]


def depth_of(
    limits: ExplosionLimits, layered: LayeredBlock, signal_too: bool
) -> BlockProfiles | None:
    """Return both profiles of every row of a block; `None` when there are too few layers. Without
    `signal_too` that of the signal is flat.
    """
    if len(layered.layers) < limits.min_layers:
        return None
    norm = layered.norms
    whole = profiles(
        norm.combined,
        limits.min_layers,
        decays=False,
        min_range=math.log10(limits.min_total_gain) - 1,
    )
    bias = norm.bias if signal_too else norm.bias[:, :0]
    signal = profiles(
        bias,
        limits.min_layers,
        decays=False,
        min_range=math.log10(limits.min_total_signal_gain) - 1,
    )
    by_whole = whole.exceeds(limits.min_goodness, limits.min_gain, limits.min_total_gain)
    by_signal = signal.exceeds(
        limits.min_goodness, limits.min_signal_gain, limits.min_total_signal_gain
    )
    return BlockProfiles(norm, layered.layers, whole, signal, by_whole, by_signal)


def towards_the_input(track: ExplosionTrack, look: OptimizerRows) -> Explosion | None:
    """Detect that each layer multiplies the gradient it receives by more than one."""
    before, limits = track.num_rows, look.limits
    track.num_rows += len(look.rows)
    if not look.depths:
        return None
    early = np.arange(before, track.num_rows) < limits.first_steps
    grows = [
        depth.by_whole[look.rows] | (depth.by_signal[look.rows] & early) for depth in look.depths
    ]
    shown = np.logical_or.reduce(grows)
    evaluated = np.logical_or.reduce(
        [
            depth.whole.evaluated[look.rows] | (depth.signal.evaluated[look.rows] & early)
            for depth in look.depths
        ]
    )
    reached = track.recent.add(shown[evaluated], look.steps[evaluated], limits.min_steps)
    if reached is None or track.is_found:
        return None
    position = int(np.flatnonzero(evaluated)[reached[0]])
    row = int(look.rows[position])
    depth = next(each for each, grown in zip(look.depths, grows, strict=True) if grown[position])
    by_whole = depth.by_whole[look.rows]
    profile, norms, names = (
        (depth.whole, depth.norm.combined, depth.layers.names)
        if by_whole[position]
        else (depth.signal, depth.norm.bias, depth.layers.bias_names)
    )
    norm = norms[row]
    there = np.flatnonzero(norm > 0)
    first, last = int(there[0]), int(there[-1])
    ends = (
        end_norms(depth.norm, depth.layers, row)
        if by_whole[position]
        else EndNorms(
            names[first], names[last], float(norm[first]), float(norm[last]), len(there) - 1
        )
    )
    step, gain, total = (
        int(look.steps[position]),
        float(profile.gain[row]),
        float(profile.total_gain[row]),
    )
    least = (
        (limits.min_gain, limits.min_total_gain)
        if by_whole[position]
        else (limits.min_signal_gain, limits.min_total_signal_gain)
    )
    evidence = (
        Evidence("grad_norm", ends.first, step, ends.first_norm, least[1] * ends.last_norm),
        Evidence("grad_norm", ends.last, step, ends.last_norm, ends.first_norm / least[1]),
        Evidence("line_gain", "", step, gain, least[0]),
        Evidence("line_total", "", step, total, least[1]),
        Evidence("line_fit", "", step, float(profile.goodness[row]), limits.min_goodness),
    )
    cause = say(
        "each of the {layers} layers multiplies the gradient by {gain:.2g} on average in the "
        "backward pass: its norm is {last_norm:.3g} at {last} and {first_norm:.3g} at {first}",
        layers=ends.num_passed,
        gain=ends.gain,
        last=ends.last,
        last_norm=ends.last_norm,
        first=ends.first,
        first_norm=ends.first_norm,
    )
    largest = tuple(
        names[layer] for layer in as_list(there) if norm[layer] >= 0.1 * norm[there].max()
    )
    return Explosion(
        position,
        reached[1],
        largest,
        evidence,
        cause,
        initialise(),
        None,
        # half of the way, in powers of ten, is enough to say what does it
        least_total=math.sqrt(limits.min_total_signal_gain),
    )


def explodes_at_first(limits: ExplosionLimits, block: RowBatch, row: int) -> bool:
    """Return whether the gradient is beyond bounds before any update."""
    chains = [LayeredBlock(block, layers) for layers in chains_of(block.parameters)]
    depths = depths_of(limits, chains, signal_too=True)
    return float(block.steps["grad_norm"][row]) >= limits.min_norm or (
        any(bool(depth.by_whole[row] or depth.by_signal[row]) for depth in depths)
    )
