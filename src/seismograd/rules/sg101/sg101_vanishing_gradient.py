"""SG101 vanishing-gradient."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.block_rows import BoolArray, as_list, by_optimizer, integers, site_of
from seismograd.analysis.chance_level import chance_loss
from seismograd.analysis.depth_profile import (
    DepthProfiles,
    LayeredBlock,
    LayerNorms,
    LayerReader,
    ProfileLayers,
    profiles,
)
from seismograd.analysis.recent_hits import RecentHits
from seismograd.analysis.shared_block import SharedBlock, SharedReaders
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.rules.sg101.insensitive_outputs import InsensitiveOutputs, insensitivity_finding
from seismograd.schema import EventKind, Evidence, Finding, IntArray, RowBatch


@final
@dataclass
class VanishingGradient(Rule):
    """The gradient dies on its way back to the input.

    What it finds
        Networks whose first layers hardly learn, because each layer passes on only a part of the
        gradient that it gets from the layer after it. The norm over all layers can look quite
        normal: the last layer alone makes it.

    Why it hurts
        Backpropagation multiplies: what reaches the first layer is the product of what every later
        layer passes on. Ten layers that each pass on a fifth leave a ten-millionth. The first
        layers then stay as they were initialised, and the layers after them learn from what are in
        effect random features, or nothing at all.

    How it decides
        At each step it takes the gradient norm of every layer (weights of two or more dimensions,
        each with its bias, in the order of execution; no embeddings; networks side by side, as an
        actor and a critic, each on its own) and lays a robust line through the logarithms. A step
        counts when the line fits (R² at least {min_goodness:g}), each layer passes on less than
        ×{max_gain:g}, and less than {max_total_gain:g} of the gradient is left at the first layer.
        It also counts when the first layers get exactly zero and the line through the others falls
        below {max_visible_gain:g} before that. One step says little, since a network may begin like
        this and grow out of it: it takes {min_steps} of {window} steps where a layer passes on less
        than ×{steep_gain:g}, as sigmoid does, and {min_slow_steps} of {slow_window} where it passes
        on more. A run of fewer than {window} steps needs {min_steps_at_end} of the first kind, and
        half of all. Layers of equal weights without biases all get a gradient of the same size,
        however small. So it looks at the first step as well: when a change of any weight by its own
        size would change the loss of a classifier by {max_leverage:g} of itself at most, and the
        loss of the first {flat_steps:g} steps stays within {guess_distance:.0%} of that of a mere
        guess, nothing comes through at all. It is an error when layers get exactly nothing,
        otherwise a warning, and a mere information when fewer than {recovered_share:.0%} of the
        last {window} steps show it.

    False alarms
        A very deep plain network that a slow optimizer does bring to life after many steps. Only
        ratios between layers count, so small gradients at the end of a training, a small loss or a
        small loss scale do not raise it; nor do layers without a gradient (frozen, detached), idle
        experts, or branches that begin at zero. It cannot see what vanishes over time within one
        recurrent layer.

    What to try
        - Replace sigmoid or tanh between the layers by ReLU, GELU or SiLU, and initialise for it
          (`nn.init.kaiming_normal_`).
        - Put a normalisation (`nn.LayerNorm`, `nn.BatchNorm1d`) after each layer.
        - Add residual connections, `x = x + block(x)`, so that the gradient has a way around each
          block.
        - A larger learning rate is no cure: it reaches the last layers first, and they break before
          the first ones move.

    References
        - Hochreiter (1991), Untersuchungen zu dynamischen neuronalen Netzen; Bengio, Simard,
          Frasconi (1994), Learning long-term dependencies with gradient descent is difficult.
        - Glorot, Bengio (2010), Understanding the difficulty of training deep feedforward neural
          networks.
        - He, Zhang, Ren, Sun (2015), Delving deep into rectifiers.
    """

    code: ClassVar[str] = "SG101"
    name: ClassVar[str] = "vanishing-gradient"
    severity: ClassVar[str] = "warning"
    needs: ClassVar[tuple[str, ...]] = ("grad_norm",)
    absorbs: ClassVar[tuple[str, ...]] = ("SG105", "SG106", "SG108")

    max_total_gain: float = 2e-4  # of the gradient at the last layer that is left at the first
    max_visible_gain: float = 1e-3  # the same, up to the last layer that is not exactly zero
    max_gain: float = 0.8  # per layer
    # per layer; sigmoid with PyTorch's initialisation: 0.14, GELU: 0.30, ReLU: 0.43
    steep_gain: float = 0.25
    min_goodness: float = 0.8  # R²
    min_layers: int = 4
    min_steps: int = 10
    window: int = 20  # steps
    min_slow_steps: int = 40
    slow_window: int = 60  # steps
    min_steps_at_end: int = 5
    recovered_share: float = 0.25  # of the last steps
    flat_steps: int = 10
    max_leverage: float = 1e-4
    guess_distance: float = 0.05  # of the loss of a uniform guess

    _layers: LayerReader = field(default_factory=LayerReader, init=False, repr=False)
    _most_layers: int = field(default=0, init=False, repr=False)
    _tracks: dict[int, _VanishingTrack] = field(
        default_factory=dict[int, "_VanishingTrack"], init=False, repr=False
    )
    _flats: dict[int, InsensitiveOutputs] = field(
        default_factory=dict[int, InsensitiveOutputs], init=False, repr=False
    )

    def read_with(self, readers: SharedReaders) -> None:
        self._layers = readers.layers

    def observe(self, block: SharedBlock) -> Iterator[Finding]:
        yield from self._begin(block)
        layered = block.read_by(self._layers)
        self._most_layers = max(self._most_layers, len(layered[0].layers))
        chains = [self._chain(each) for each in layered if len(each.layers) >= self.min_layers]
        if not chains:
            return
        evaluated = np.logical_or.reduce([chain.profile.evaluated for chain in chains])
        for optimizer, rows in by_optimizer(block, evaluated & block.updates):
            track = self._tracks.setdefault(
                optimizer, _VanishingTrack(RecentHits(self.window), RecentHits(self.slow_window))
            )
            looked = _ProfiledRows(rows, integers(block.steps, "iteration")[rows], chains, block)
            if self._follow(track, looked) and not self._is_flat(optimizer):
                yield self._finding(track, optimizer)

    def finish(self) -> Iterator[Finding]:
        for optimizer, track in self._tracks.items():
            if (
                track.first is None
                and not self._is_flat(optimizer)
                and track.steep.count < self.window
            ):
                hits = track.steep.num_hits(self.window)
                if hits >= self.min_steps_at_end and 2 * hits >= track.steep.count:
                    track.first = int(track.steep.steps[0])
                    yield self._finding(track, optimizer)

    def shortfall(self) -> Message | None:
        steps = sum(track.slow.count for track in self._tracks.values())
        if self._most_layers < self.min_layers:
            return say(
                "needs {needed} layers, has {has}", needed=self.min_layers, has=self._most_layers
            )
        if steps < self.min_steps_at_end:
            return say(
                "needs {needed} steps with finite gradients in {layers} layers, has {has}",
                needed=self.min_steps_at_end,
                layers=self.min_layers,
                has=steps,
            )
        return None

    def _begin(self, block: SharedBlock) -> Iterator[Finding]:
        """Look at the first steps of each optimizer."""
        for optimizer, rows in block.updated:
            flat = self._flats.setdefault(optimizer, InsensitiveOutputs())
            for row in as_list(rows[: max(self.flat_steps - flat.num, 0)]):
                flat.add(block, row)
                if flat.num == self.flat_steps:
                    if not (
                        flat.leverage <= self.max_leverage
                        and flat.is_guess(chance_loss(block.parameters), self.guess_distance)
                    ):
                        flat.leverage = math.nan
                    else:
                        yield insensitivity_finding(self, flat, block, row, optimizer)

    def _is_flat(self, optimizer: int) -> bool:
        flat = self._flats[optimizer]
        return flat.num >= self.flat_steps and flat.leverage <= self.max_leverage

    def _chain(self, layered: LayeredBlock) -> _Chain:
        norm = layered.norms
        profile = profiles(
            norm.combined,
            self.min_layers,
            decays=True,
            min_range=-math.log10(self.max_visible_gain),
        )
        shown = self._shown(profile)
        return _Chain(
            norm, profile, layered.layers, shown, shown & (profile.gain <= self.steep_gain)
        )

    def _shown(self, profile: DepthProfiles) -> BoolArray:
        """Where the gradient vanishes  # (B,)."""
        gone = (profile.total_gain <= self.max_total_gain) | (
            (profile.leading_zeros > 0) & (profile.total_gain <= self.max_visible_gain)
        )
        return gone & (profile.goodness >= self.min_goodness) & (profile.gain <= self.max_gain)

    def _follow(self, track: _VanishingTrack, looked: _ProfiledRows) -> bool:
        """Take in the rows of one optimizer; whether what is to be said has changed."""
        was_recovered = track.recovered
        shown = np.logical_or.reduce([chain.shown for chain in looked.chains])[looked.rows]
        steep = np.logical_or.reduce([chain.steep for chain in looked.chains])[looked.rows]
        reached = [
            track.steep.add(steep, looked.steps, self.min_steps),
            track.slow.add(shown, looked.steps, self.min_slow_steps),
        ]
        hits = np.flatnonzero(shown)
        if track.first is None:
            found = min((each for each in reached if each is not None), default=None)
            if found is not None:
                index, track.first = found
                track.witness = _witness(looked, int(hits[hits <= index][-1]), self.max_total_gain)
            elif len(hits):
                track.witness = _witness(looked, int(hits[-1]), self.max_total_gain)
        if len(hits):
            track.last = int(looked.steps[hits[-1]])
        track.recovered = track.first is not None and track.slow.num_hits(
            self.window
        ) < self.recovered_share * min(track.slow.count, self.window)
        return track.first is not None and bool(len(hits) or track.recovered != was_recovered)

    def _finding(self, track: _VanishingTrack, optimizer: int) -> Finding:
        seen = track.witness
        assert seen is not None
        assert track.first is not None
        return Finding(
            code=self.code,
            name=self.name,
            severity="info" if track.recovered else "error" if seen.num_zero else self.severity,
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
                    self.max_total_gain * seen.last_norm,
                ),
                Evidence(
                    "grad_norm",
                    seen.last,
                    seen.step,
                    seen.last_norm,
                    seen.first_norm / self.max_total_gain,
                ),
                Evidence("gain_per_layer", "", seen.step, seen.gain, self.max_gain),
                Evidence(
                    "total_gain",
                    "",
                    seen.step,
                    seen.total_gain,
                    self.max_visible_gain if seen.num_zero else self.max_total_gain,
                ),
                Evidence("line_fit", "", seen.step, seen.goodness, self.min_goodness),
            ),
            cause=_cause(seen, track),
            advice=say(
                "let more of it through: ReLU or GELU in place of sigmoid or tanh, with "
                "nn.init.kaiming_normal_ for the weights; a "
                "normalisation after each layer; or residual connections, x = x + block(x). A "
                "larger learning rate does not help the "
                "first layers"
            ),
            where=seen.where,
            excerpt="nn.Linear(width, width), nn.LayerNorm(width), nn.ReLU()",
        )


@dataclass(frozen=True, slots=True)
class _VanishedStep:
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
class _VanishingTrack:
    """What is remembered of one optimizer."""

    steep: RecentHits
    slow: RecentHits
    # of the step at which it was found, until then of the last one that showed it
    witness: _VanishedStep | None = None
    first: int | None = None
    last: int = -1
    recovered: bool = False


@dataclass(frozen=True, slots=True)
class _Chain:
    """One chain of layers, in all rows of a block: where its gradient vanishes, and where it
    does so within a few layers.
    """

    norm: LayerNorms
    profile: DepthProfiles
    layers: ProfileLayers
    shown: BoolArray
    steep: BoolArray


@dataclass(frozen=True, slots=True)
class _ProfiledRows:
    """The rows of one optimizer in a block, and what was seen in them."""

    rows: IntArray
    steps: IntArray
    chains: list[_Chain]
    block: RowBatch


def _witness(looked: _ProfiledRows, index: int, starved_below: float) -> _VanishedStep:
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
    return _VanishedStep(
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


def _cause(seen: _VanishedStep, track: _VanishingTrack) -> Message:
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
            "each of the {layers} layers passed on ×{gain:.2g} of the gradient and {total:.2g} of "
            "it was left at {parameter}; "
            "after step {step} the network recovered",
            **values,
        )
    if seen.num_zero:
        return say(
            "each layer passes on ×{gain:.2g} of the gradient, and after {layers} layers nothing "
            "is left: it is exactly zero in the "
            "first {zeros}, beginning with {parameter}",
            **values,
        )
    return say(
        "each of the {layers} layers passes on ×{gain:.2g} of the gradient; {total:.2g} of it is "
        "left at {parameter}",
        **values,
    )
