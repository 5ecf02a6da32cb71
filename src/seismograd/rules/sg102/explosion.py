"""The three ways in which a gradient explodes, each searched for in the rows of one optimizer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from seismograd.analysis.block_rows import (
    BoolArray,
    as_list,
    integers,
    largest_parameters,
    numbers,
    weight_norms,
)
from seismograd.analysis.chance_level import chance_loss, plain_loss
from seismograd.analysis.depth_profile import (
    DepthProfiles,
    LayeredBlock,
    LayerNorms,
    ProfileLayers,
    chains_of,
    profiles,
)
from seismograd.analysis.norm_growth import NormSeries
from seismograd.analysis.recent_hits import RecentHits
from seismograd.i18n import Message, say
from seismograd.schema import (
    Evidence,
    Fact,
    FloatArray,
    IntArray,
    RowBatch,
    State,
)

PLAIN = ("SGD",)  # optimizers whose update is the learning rate times the gradient


class ExplosionLimits(Protocol):
    """The thresholds of `ExplodingGradient` that are needed here."""

    min_gain: float
    min_total_gain: float
    min_signal_gain: float
    min_total_signal_gain: float
    min_goodness: float
    min_layers: int
    min_steps: int
    first_steps: int
    min_growth: float
    min_norm: float
    min_update: float
    min_first_loss: float
    min_exponential: float


@dataclass(slots=True)
class ExplosionTrack:
    """The state of one optimizer."""

    recent: RecentHits  # rows that grow towards the input
    series: NormSeries
    num_rows: int = 0
    weight_norm: float = np.nan  # of all weights, when last sampled
    first_loss: float = np.nan  # of the first step, where it is a plain mean
    first_step: int = -1
    is_found: bool = False
    # norms from which the explosion continues; None: it continues where it grows towards the input
    limit: float | None = None

    @property
    def goes_on_by_depth(self) -> bool:
        """Return whether it was found by growth towards the input."""
        return self.is_found and self.limit is None


Cure = tuple[Message, str]  # advice and excerpt


@dataclass(frozen=True, slots=True)
class Explosion:
    """A way in which the gradient explodes: the position of the row at which it was detected, and
    its description.
    """

    position: int
    first_step: int
    parameters: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    cause: Message
    cure: Cure
    limit: float | None  # see `ExplosionTrack`
    where: str = ""  # empty: the step


@dataclass(frozen=True, slots=True)
class BlockProfiles:
    """The two profiles over depth of a block: of whole layers, and of their biases, whose
    gradient is the signal itself.
    """

    norm: LayerNorms
    layers: ProfileLayers
    whole: DepthProfiles
    signal: DepthProfiles
    by_whole: BoolArray  # (B,)
    by_signal: BoolArray  # (B,)


@dataclass(frozen=True, slots=True)
class OptimizerRows:
    """The rows of one optimizer in a block."""

    limits: ExplosionLimits
    block: RowBatch
    optimizer: int
    rows: IntArray
    norm: FloatArray  # over all parameters, NaN where it is not finite  # (rows,)
    depths: Sequence[BlockProfiles]  # of each chain of layers

    @property
    def steps(self) -> IntArray:
        """Return the iterations of the rows."""
        return integers(self.block.steps, "iteration")[self.rows]

    def shown_by_depth(self) -> BoolArray:
        """Return where it grows towards the input  # (rows,)."""
        shown = [(depth.by_whole | depth.by_signal)[self.rows] for depth in self.depths]
        return np.logical_or.reduce(shown) if shown else np.zeros(len(self.rows), np.bool_)


def _initialise() -> Cure:
    return (
        say(
            "initialise the weights for their activation (nn.init.kaiming_normal_ for ReLU, "
            "nn.init.xavier_normal_ for tanh), or add a normalisation layer after each layer"
        ),
        'nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")',
    )


def _slow_down() -> Cure:
    return (
        say("lower the learning rate, and clip the gradient between backward and step"),
        "torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)\noptimizer.step()",
    )


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
        Evidence("grad_norm", names[first], step, float(norm[first]), least[1] * float(norm[last])),
        Evidence("grad_norm", names[last], step, float(norm[last]), float(norm[first]) / least[1]),
        Evidence("gain_per_layer", "", step, gain, least[0]),
        Evidence("total_gain", "", step, total, least[1]),
        Evidence("line_fit", "", step, float(profile.goodness[row]), limits.min_goodness),
    )
    cause = say(
        "each of the {layers} layers multiplies the gradient by {gain:.2g} in the backward pass; "
        "at {parameter} it is {total:.2g} times as large as at {last}",
        layers=len(there) - 1,
        gain=gain,
        total=float(norm[first] / norm[last]),
        parameter=names[first],
        last=names[last],
    )
    largest = tuple(
        names[layer] for layer in as_list(there) if norm[layer] >= 0.1 * norm[there].max()
    )
    return Explosion(position, reached[1], largest, evidence, cause, _initialise(), None)


def of_an_exponential(look: OptimizerRows, fact: Fact) -> Explosion | None:
    """Detect a loss that an exponential alone has made this large, in the iteration of the fact."""
    at = np.flatnonzero(look.steps == fact.iteration)
    limits = look.limits
    if not len(at) or not fact.number("largest") >= limits.min_exponential:
        return None
    names = fact.parameters or largest_parameters(look.block, int(look.rows[at[0]]))
    found = Explosion(
        int(at[0]), fact.iteration, names, (), Message(""), _slow_down(), limits.min_norm
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
    )


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
    cause = say(
        "the gradient norm grew from about {baseline:.2g} to {norm:.2g} at step {step}, "
        "{times:.1g} times as large, while the loss did not fall: each update makes the next "
        "gradient larger",
        baseline=grown.baseline,
        norm=grown.norm,
        step=grown.step,
        times=grown.norm / grown.baseline,
    )
    largest = largest_parameters(look.block, int(look.rows[position]))
    return Explosion(
        position, grown.first_step, largest, tuple(evidence), cause, _slow_down(), limit
    )


def from_the_start(track: ExplosionTrack, look: OptimizerRows) -> Explosion | None:
    """Detect that a first update would be larger than the weights, or that the first loss is far
    beyond that of a guess.
    """
    limits, block = look.limits, look.block
    for position in range(min(max(limits.first_steps - track.num_rows, 0), len(look.rows))):
        row, norm = int(look.rows[position]), float(look.norm[position])
        measured = block.state[row] >= State.ZERO
        sampled = weight_norms(block, row)
        if sampled is not None:
            track.weight_norm = math.hypot(*sampled[measured & np.isfinite(sampled)])
        lr, applied = (
            float(numbers(block.steps, "lr")[row]),
            float(numbers(block.steps, "applied_norm")[row]),
        )
        if not math.isfinite(applied):  # not measured, or cut by a clip
            applied = norm if math.isnan(numbers(block.steps, "clip_limit")[row]) else 0.0
        if track.num_rows + position == 0:
            track.first_loss, track.first_step = plain_loss(block, row), int(look.steps[position])
        times = track.first_loss / chance_loss(block.parameters)
        if times >= limits.min_first_loss:
            return _beyond_guessing(look, position, track, times)
        largest = limits.min_update * track.weight_norm
        if norm >= limits.min_norm and lr * applied >= largest > 0 and _all_plain(block, measured):
            return _torn_apart(look, position, lr, lr * applied, largest)
    return None


def _beyond_guessing(
    look: OptimizerRows, position: int, track: ExplosionTrack, times: float
) -> Explosion:
    step, limits = track.first_step, look.limits
    evidence = (
        Evidence(
            "loss", "", step, track.first_loss, track.first_loss / times * limits.min_first_loss
        ),
    )
    cause = say(
        "before the first update the loss is {loss:.3g}, {times:.2g} times that of a random guess: "
        "the signal grows from layer to layer in the forward pass, and the gradient grows with it",
        loss=track.first_loss,
        times=times,
    )
    parameters = largest_parameters(look.block, int(look.rows[position]))
    return Explosion(position, step, parameters, evidence, cause, _initialise(), math.inf)


def _torn_apart(
    look: OptimizerRows, position: int, lr: float, update: float, largest: float
) -> Explosion:
    step, norm = int(look.steps[position]), float(look.norm[position])
    limit = max(look.limits.min_norm, largest / lr)
    evidence = (
        Evidence("grad_norm", "", step, norm, limit),
        Evidence("update_norm", "", step, update, largest),
    )
    cause = say(
        "the gradient norm is {norm:.2g} at step {step}: with a learning rate of {lr:.2g}, this "
        "update is {times:.2g} times as large as all weights together",
        norm=norm,
        step=step,
        lr=lr,
        times=update / largest * look.limits.min_update,
    )
    parameters = largest_parameters(look.block, int(look.rows[position]))
    return Explosion(position, step, parameters, evidence, cause, _initialise(), limit)


def _all_plain(block: RowBatch, measured: BoolArray) -> bool:
    """Return whether everything updated in this row is updated by the learning rate times the
    gradient.
    """
    kinds: dict[int | None, str] = {each.index: each.kind for each in block.optimizers}
    owners = {block.parameters[column].optimizer for column in as_list(np.flatnonzero(measured))}
    return all(kinds.get(owner) in PLAIN for owner in owners if owner is not None)


def explodes_at_first(limits: ExplosionLimits, block: RowBatch, row: int) -> bool:
    """Return whether the gradient is beyond bounds before any update."""
    chains = [LayeredBlock(block, layers) for layers in chains_of(block.parameters)]
    depths = depths_of(limits, chains, signal_too=True)
    return float(block.steps["grad_norm"][row]) >= limits.min_norm or (
        any(bool(depth.by_whole[row] or depth.by_signal[row]) for depth in depths)
    )
