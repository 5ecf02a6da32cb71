"""SG107 update-too-large."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

from seismograd.analysis.large_updates import LargeUpdateTrack
from seismograd.analysis.setting_sources import SettingSources
from seismograd.analysis.shared_block import SharedBlock
from seismograd.analysis.step_groups import StepGroup
from seismograd.analysis.update_advice import lower_learning_rate, lowering, too_large
from seismograd.diagnosis.rule import memory
from seismograd.diagnosis.step_group_rule import StepGroupRule
from seismograd.rules.sg102.exploding_depth import explodes_at_first
from seismograd.rules.sg102.sg102_exploding_gradient import ExplodingGradient
from seismograd.schema import Evidence, Fact, FactKind, Finding


@final
@dataclass
class UpdateTooLarge(StepGroupRule):
    """The learning rate is too high: updates destroy the weights instead of improving them.

    What it finds
        Training runs in which the weights are replaced entirely within a few steps, which leaves
        the loss worse than before the first step.

    Why it hurts
        A gradient gives the right direction only over a short distance. A weight that moves by a
        tenth of its own size at each step is a new random weight after ten. ReLU units die, sigmoid
        and tanh saturate, and the loss settles at the level of a random guess.

    How it decides
        For each weight with two or more dimensions, the rule divides the norm of the update by the
        norm of the weight; about a thousandth is typical. It takes the median over the weights in
        groups of ten steps; for the first step, it derives the ratio from the learning rate. It
        compares the loss with that of the first step, which was computed with the initial weights.
        The loss has shot up if the ratio is at least {min_ratio:g} and the loss of the group at
        least {thrown_up:g} times the first; or if the ratio is at least {high_ratio:g}, the loss
        {raised:g} times the first and its peak {peak:g} times. Training is stuck if the ratio was
        at least {high_ratio:g} in one group, or {lasting_ratio:g} in each of {lasting:g} groups in
        a row, and the loss of {stuck_groups:g} groups in a row, not counting the very first group,
        is still at least {stuck_share:g} of the first (or more, if the losses scatter by more than
        {usual_noise:.0%}). If the first update alone was {wrecking_ratio:g} times the weight, a
        loss of {wrecked_share:g} of the first is enough. Ratios count only while the gradient norm
        is below {max_growth:g} times the first: if a gradient explodes after the loss has fallen,
        or grows from layer to layer at the start, that is the cause (gradient-spike,
        exploding-gradient). A loss that is negative at any point says little about progress and is
        not judged; nor is one of log-probabilities times returns or advantages, which grow with a
        better policy, or one whose gradients the script has replaced by others.

    False alarms
        A task on which nothing can be learned, such as random labels. A loss that should grow.

    What to try
        - Divide the learning rate by ten, repeatedly if necessary, until the ratio is near 1e-3.
          For Adam, start at 1e-3 or 3e-4: learning rates of 0.1 are for SGD.
        - Increase the learning rate gradually over the first steps (warm-up).
        - With a momentum of 0.9, the update is ten times as large as the learning rate suggests.

    References
        - Stanford CS231n, Neural networks 3: the ratio of updates to weights.
        - Smith (2017), Cyclical learning rates: the learning rate range test.
    """

    code = "SG107"
    name = "update-too-large"
    severity = "error"
    needs = ("update_ratio",)
    absorbs = ("SG101", "SG102", "SG103", "SG104", "SG108", "SG201", "SG202", "SG203")

    min_evaluated: int = 5  # steps
    min_ratio: float = 0.05
    thrown_up: float = 3.0  # of the first loss
    high_ratio: float = 0.25
    raised: float = 1.2  # of the first loss
    peak: float = 2.0  # of the first loss
    lasting_ratio: float = 0.04
    lasting: int = 4  # groups
    stuck_groups: int = 2
    stuck_share: float = 0.95  # of the first loss
    usual_noise: float = 0.05  # of the loss
    wrecking_ratio: float = 1.0
    wrecked_share: float = 0.85  # of the first loss
    max_growth: float = 30.0  # of the gradient norm against the first

    _explosion: ExplodingGradient = memory(ExplodingGradient)
    _tracks: dict[int, LargeUpdateTrack] = memory(dict[int, LargeUpdateTrack])
    _sources: SettingSources = memory(SettingSources)
    _doubtful: set[int] = memory(set[int])  # optimizers whose loss is no measure

    def learn(self, fact: Fact) -> Iterable[Finding]:
        self._sources.learn(fact)
        if fact.kind == FactKind.LOSS_DOUBTFUL:
            self._doubtful.add(fact.optimizer)
        return ()

    def observe(self, block: SharedBlock) -> Iterable[Finding]:
        for optimizer, rows in block.updated:
            if optimizer not in self._tracks:
                explodes = explodes_at_first(self._explosion, block, int(rows[0]))
                self._tracks[optimizer] = LargeUpdateTrack.begin(
                    block, int(rows[0]), optimizer, explodes=explodes
                )
        return super().observe(block)

    def judge(self, step_group: StepGroup) -> None:
        track, relative = self._tracks[step_group.optimizer], self._follow(step_group)
        if not track.is_judged or not track.first_loss > 0 or math.isnan(relative):
            return
        if step_group.optimizer in self._doubtful and step_group.optimizer not in self.found:
            return
        if step_group.optimizer in self.found:
            if relative >= self.wrecked_share:
                self.found.extend(step_group.last_step, step_group.optimizer)
            return
        is_thrown_up = self._is_thrown_up(track, step_group, relative)
        if is_thrown_up or self._is_stuck(track, step_group, relative):
            self.found.add(self._finding(track, step_group, is_thrown_up))

    def _follow(self, step_group: StepGroup) -> float:
        """Add a group to those of its optimizer; return its loss in units of the first one."""
        track, batch = self._tracks[step_group.optimizer], step_group.batch
        beyond_guessing = self._explosion.min_first_loss * batch.weights.guess
        if track.plain_loss >= beyond_guessing or batch.below_zero[step_group.index]:
            track.is_judged = False
        is_calm = track.add(step_group, self.lasting_ratio, self.max_growth)
        fell = track.lowest < self.wrecked_share * track.first_loss
        if not is_calm and fell and track.largest_group < self.high_ratio / 2:
            # a gradient that explodes after the loss has fallen
            track.is_judged &= step_group.number == 0 or step_group.optimizer in self.found
        return step_group.loss_level / track.first_loss if track.first_loss else math.nan

    def _is_thrown_up(
        self, track: LargeUpdateTrack, step_group: StepGroup, relative: float
    ) -> bool:
        peak = step_group.batch.peaks[step_group.index] / track.first_loss
        return (track.recent >= self.min_ratio and relative >= self.thrown_up) or (
            track.recent >= self.high_ratio and relative >= self.raised and peak >= self.peak
        )

    def _is_stuck(self, track: LargeUpdateTrack, step_group: StepGroup, relative: float) -> bool:
        wrecked = track.at_first.ratio >= self.wrecking_ratio
        least = self.wrecked_share if wrecked else self.stuck_share
        least += 3 * max(step_group.loss_noise - self.usual_noise, 0)
        is_high = step_group.number > 0 and relative >= least
        track.num_stuck = track.num_stuck + 1 if is_high else 0
        moved = track.largest_group >= self.high_ratio or track.num_lasting >= self.lasting
        return (wrecked or moved) and track.num_stuck >= self.stuck_groups

    def _finding(self, track: LargeUpdateTrack, last: StepGroup, is_thrown_up: bool) -> Finding:
        shown, lr = track.shown, track.at_first.lr or last.last_lr
        factor = lowering(track)
        change = self._sources.rate_times(last.optimizer, factor, last.last_step)
        return self.finding(
            optimizer=last.optimizer,
            first_step=min(track.since, shown.step) if track.since >= 0 else shown.step,
            last_step=last.last_step,
            parameters=tuple(each.name for each in last.weights),
            evidence=(
                Evidence("update_ratio", shown.parameter, shown.step, shown.value, self.min_ratio),
                Evidence("loss", "", last.last_step, last.loss_level, track.first_loss),
            ),
            cause=too_large(track, last, is_thrown_up),
            advice=lower_learning_rate(last.kind, lr, lr * factor),
            where=last.where if change is None else change.where,
            excerpt=f"torch.optim.{last.kind or 'SGD'}(model.parameters(), lr={lr * factor:.1g})"
            if change is None
            else change.text,
        )
