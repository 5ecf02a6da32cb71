"""Describe a step at which the gradient vanishes on its way back through the layers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from seismograd.analysis.block_rows import BoolArray, as_list, site_of
from seismograd.analysis.depth_profile import (
    DepthProfiles,
    EndNorms,
    LayeredBlock,
    LayerNorms,
    end_norms,
    profiles,
)
from seismograd.analysis.profile_layers import ProfileLayers
from seismograd.analysis.recent_hits import RecentHits
from seismograd.analysis.sampled_splits import ChainSplit, SampledSplits, SplitOfFinding
from seismograd.schema import EventKind, IntArray, RowBatch


class VanishingLimits(Protocol):
    """The thresholds of `VanishingGradient` that are needed here."""

    max_total_gain: float
    max_visible_gain: float
    max_gain: float
    steep_gain: float
    min_goodness: float
    min_layers: int
    min_steps: int
    min_slow_steps: int
    window: int
    recovered_share: float


@dataclass(frozen=True, slots=True)
class VanishedStep:
    """One step at which the gradient had vanished, in numbers."""

    step: int
    first: str  # the tensor that holds most of the gradient of the first layer
    last: str
    first_norm: float
    last_norm: float
    ends: EndNorms  # of the layers that are not zero
    gain: float  # of the line
    total_gain: float
    goodness: float
    num_passed: int  # layers between the last and the first that is not zero
    num_zero: int
    starved: tuple[str, ...]
    where: str  # the step of the optimizer


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


def chain_of(layered: LayeredBlock, limits: VanishingLimits) -> Chain:
    """Return where the gradient of these layers vanishes."""
    norm, least = layered.norms, -math.log10(limits.max_visible_gain)
    profile = profiles(norm.combined, limits.min_layers, decays=True, min_range=least)
    gone = (profile.total_gain <= limits.max_total_gain) | (
        (profile.leading_zeros > 0) & (profile.total_gain <= limits.max_visible_gain)
    )
    is_line = (profile.goodness >= limits.min_goodness) & (profile.gain <= limits.max_gain)
    steep = gone & is_line & (profile.gain <= limits.steep_gain)
    return Chain(norm, profile, layered.layers, gone & is_line, steep)


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
        ends=end_norms(chain.norm, chain.layers, row),
        gain=float(profile.gain[row]),
        total_gain=float(profile.total_gain[row]),
        goodness=float(profile.goodness[row]),
        num_passed=int(profile.num_layers[row]) - 1,
        num_zero=int(profile.leading_zeros[row]),
        starved=tuple(chain.layers.names[layer] for layer in as_list(starved)),
        where=site_of(looked.block, EventKind.STEP, int(looked.steps[index])),
    )


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
    split: SplitOfFinding = field(default_factory=SplitOfFinding)

    def follow(self, looked: ProfiledRows, limits: VanishingLimits) -> bool:
        """Read the next rows; return whether the finding about them has changed."""
        was_recovered = self.recovered
        shown = np.logical_or.reduce([chain.shown for chain in looked.chains])[looked.rows]
        steep = np.logical_or.reduce([chain.steep for chain in looked.chains])[looked.rows]
        reached = [
            self.steep.add(steep, looked.steps, limits.min_steps),
            self.slow.add(shown, looked.steps, limits.min_slow_steps),
        ]
        hits = np.flatnonzero(shown)
        if self.first is None and len(hits):
            found = min((each for each in reached if each is not None), default=None)
            last = int(hits[-1])
            if found is not None:
                last, self.first = int(hits[hits <= found[0]][-1]), found[1]
            self.witness = witness_of(looked, last, limits.max_total_gain)
        if len(hits):
            self.last = int(looked.steps[hits[-1]])
        num, window = self.slow.num_hits(limits.window), min(self.slow.count, limits.window)
        self.recovered = self.first is not None and num < limits.recovered_share * window
        return self.first is not None and bool(len(hits) or self.recovered != was_recovered)

    def look(self, splits: SampledSplits, limits: VanishingLimits) -> None:
        """Look for the split of what was found among those of the sampled steps."""
        seen = self.witness
        if seen is not None and self.first is not None:
            # Half of the way, in powers of ten, is enough to say what does it.
            least = math.sqrt(limits.max_total_gain)

            def fits(chain: ChainSplit) -> bool:
                split = chain.split
                is_here = chain.leads_past((seen.first, seen.last))
                return is_here and split.gain <= limits.max_gain and split.total <= least

            self.split.look(splits, self.first, seen.step, fits)
