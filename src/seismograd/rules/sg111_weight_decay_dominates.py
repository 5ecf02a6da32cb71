"""SG111 weight-decay-dominates."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import final

from seismograd.analysis.block_rows import numbers, site_of
from seismograd.analysis.decay_ratio import SampledDecays, sampled_decays
from seismograd.analysis.loss_level import LossLevel
from seismograd.analysis.script_names import optimizer_kind
from seismograd.analysis.setting_sources import SettingSources
from seismograd.analysis.shared_block import SharedBlock
from seismograd.diagnosis.rule import memory, per_optimizer
from seismograd.diagnosis.settings_rule import SettingsRule
from seismograd.i18n import say
from seismograd.schema import EventKind, Evidence, Fact, Finding, IntArray

LOWERED = 0.01  # of the decay


@dataclass(slots=True)
class _DecayTrack:
    """The state of one optimizer."""

    loss: LossLevel = field(default_factory=lambda: LossLevel(tracks_lowest=True))
    first_norm: float = math.nan
    num: int = 0  # sampled steps in a row in which the decay dominates


@final
@dataclass
class WeightDecayDominates(SettingsRule):
    """Weight decay outweighs the gradient: the weights shrink towards zero and the loss does not
    improve.

    What it finds
        A `weight_decay` that is too large: the weights lose half of their size, and the loss is no
        better than at the start, or goes back to it.

    Why it hurts
        The network ends up with the same output for every input. A different learning rate does not
        help, because it scales the gradient and the decay alike.

    How it decides
        At the sampled steps the rule compares the decay of each weight with two or more dimensions
        with its gradient: `weight_decay` times the norm of the weight, divided by the norm of the
        gradient; for decoupled decay (AdamW), the learning rate times `weight_decay`, divided by
        the relative size of the update. Decay dominates if the median over the weights is at least
        {min_ratio:g} in {in_a_row} sampled steps in a row, the norm of all weights has fallen to
        {max_left:.0%} of the first or less, and the loss is at least {min_loss:.0%} of the first,
        or {risen:g} times the lowest it has been. Weights whose gradient is exactly zero do not
        count, nor do steps in which these have more than half of the squared norm.

    False alarms
        A task on which nothing can be learned, with a decay that would be too large for any other.

    What to try
        - Set `weight_decay=0` and check whether the loss falls; then start at 5e-4 for SGD or 0.01
          for AdamW.
        - With `lr=0.1` and a momentum of 0.9, a decay of 0.1 takes a tenth of every weight at each
          step.

    References
        - Krogh, Hertz (1991), A simple weight decay can improve generalization.
        - Loshchilov, Hutter (2019), Decoupled weight decay regularization.
    """

    code = "SG111"
    name = "weight-decay-dominates"
    severity = "error"
    needs = ("grad_norm", "weight_norm")
    absorbs = ("SG101", "SG103", "SG104", "SG106", "SG107", "SG108")

    min_evaluated: int = 10  # steps
    min_ratio: float = 0.5
    in_a_row: int = 2
    max_left: float = 0.5
    min_loss: float = 0.9
    risen: float = 1.5

    _tracks: dict[int, _DecayTrack] = per_optimizer(_DecayTrack)
    _sources: SettingSources = memory(SettingSources)

    def learn(self, fact: Fact) -> Iterable[Finding]:
        self._sources.learn(fact)
        return super().learn(fact)

    def judge(self, block: SharedBlock, optimizer: int, rows: IntArray) -> None:
        track, losses = self._tracks[optimizer], numbers(block.steps, "loss")[rows]
        sampled = sampled_decays(block, rows, block.held.weights[optimizer], self.settings)
        added = 0
        for index, position in enumerate(sampled.positions):
            if self._is_shrunk(track, sampled, index, optimizer):
                track.loss.add(losses[added : position + 1])
                added = position + 1
                if track.loss.stays(self.min_loss) or track.loss.has_risen(self.risen):
                    self.found.add(self._finding(track, sampled, index, optimizer))
        track.loss.add(losses[added:])

    def _is_shrunk(
        self, track: _DecayTrack, sampled: SampledDecays, index: int, optimizer: int
    ) -> bool:
        """Judge the weights at a sampled step; return whether the loss decides about a finding."""
        step, norm = sampled.steps[index], sampled.norms[index]
        track.first_norm = norm if math.isnan(track.first_norm) else track.first_norm
        if sampled.are_mostly_without_gradient[index]:
            return False
        track.num = track.num + 1 if sampled.middle[index] >= self.min_ratio else 0
        if optimizer in self.found:
            if track.num:
                self.found.extend(step, optimizer)
            return False
        return track.num >= self.in_a_row and not norm > self.max_left * track.first_norm

    def _finding(
        self, track: _DecayTrack, sampled: SampledDecays, index: int, optimizer: int
    ) -> Finding:
        step, norm, ratio = sampled.steps[index], sampled.norms[index], sampled.middle[index]
        block, decay, limit = sampled.block, sampled.decays[index], self.max_left * track.first_norm
        change = self._sources.decay_times(optimizer, LOWERED)
        site = site_of(block, EventKind.STEP, step, optimizer)
        return self.finding(
            optimizer=optimizer,
            first_step=0,
            last_step=step,
            parameters=sampled.names,
            evidence=(
                Evidence("decay_ratio", sampled.worst(index), step, ratio, self.min_ratio),
                Evidence("weight_norm", "", step, norm, limit),
            ),
            cause=say(
                "weight_decay={decay:g} is too large: at step {step} the decay is {ratio:.2g} "
                "times the gradient, the norm of the weights has fallen from {before:.3g} to "
                "{norm:.3g}, and the loss is {loss:.3g} (it started at {first_loss:.3g})",
                decay=decay,
                ratio=ratio,
                step=step,
                before=track.first_norm,
                norm=norm,
                loss=track.loss.now,
                first_loss=track.loss.at_first,
            ),
            advice=say(
                "divide weight_decay by a hundred, or set it to 0 to check whether the loss falls; "
                "a different learning rate does not help, because it scales the decay as well"
            ),
            where=site if change is None else change.where,
            excerpt=f"torch.optim.{optimizer_kind(block, optimizer) or 'AdamW'}("
            f"model.parameters(), weight_decay={decay * LOWERED:.1g})"
            if change is None
            else change.text,
        )
