"""What each way in which a gradient explodes is searched for in, and what it is described by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from seismograd.analysis.block_rows import BoolArray, integers, site_of
from seismograd.analysis.depth_profile import DepthProfiles, LayerNorms
from seismograd.analysis.norm_growth import NormSeries
from seismograd.analysis.profile_layers import ProfileLayers
from seismograd.analysis.recent_hits import RecentHits
from seismograd.analysis.sampled_splits import SplitOfFinding
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import EventKind, Evidence, Finding, FloatArray, IntArray, RowBatch


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
    explosion: Explosion | None = None  # that was found, at the step `found_at`
    found_at: int = -1
    split: SplitOfFinding = field(default_factory=SplitOfFinding)
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
    # by how much the layers together multiply the signal in a sample that shows it, too; None: not
    # by their own fault
    least_total: float | None = None
    own_cause: bool = False  # whatever an exponential shows is its effect


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


def explosion_finding(rule: Rule, look: OptimizerRows, explosion: Explosion) -> Finding:
    """Return the finding about an explosion in these rows."""
    step = int(look.steps[explosion.position])
    return rule.finding(
        explosion.cause,
        *explosion.cure,
        optimizer=look.optimizer,
        first_step=explosion.first_step,
        last_step=step,
        parameters=explosion.parameters,
        evidence=explosion.evidence,
        where=explosion.where or site_of(look.block, EventKind.STEP, step, look.optimizer),
        seen_only=not explosion.where,
    )


def initialise() -> Cure:
    """Return the advice for a signal that grows from layer to layer."""
    return (
        say(
            "initialise the weights for their activation (nn.init.kaiming_normal_ for ReLU, "
            "nn.init.xavier_normal_ for tanh), or add a normalisation layer after each layer"
        ),
        'nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")',
    )


def slow_down() -> Cure:
    """Return the advice for a gradient that each update makes larger."""
    return (
        say("lower the learning rate, and clip the gradient between backward and step"),
        "torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)\noptimizer.step()",
    )
