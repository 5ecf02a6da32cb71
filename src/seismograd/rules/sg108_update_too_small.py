"""SG108 update-too-small."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

import numpy as np

from seismograd.analysis.medians import median
from seismograd.analysis.setting_sources import SettingSources
from seismograd.analysis.small_updates import PLAIN, SmallUpdateTrack
from seismograd.analysis.step_groups import StepGroup
from seismograd.analysis.update_advice import raised, raising, too_small
from seismograd.diagnosis.rule import known, memory
from seismograd.diagnosis.step_group_rule import StepGroupRule
from seismograd.schema import Evidence, Fact, Finding

SHOW_GROUPS = "print([(group['lr'], len(group['params'])) for group in optimizer.param_groups])"


@final
@dataclass
class UpdateTooSmall(StepGroupRule):
    """The learning rate is too low: the weights hardly change, although they get a gradient.

    What it finds
        A learning rate that is too low by orders of magnitude, such as 1e-7 instead of 1e-3; a
        schedule that starts at zero and stays there, or that falls to almost nothing long before
        the end; a parameter group whose learning rate is zero or close to it.

    Why it hurts
        Nothing breaks, and nothing is learned: it looks as if the model were too weak. If only one
        group is affected, the rest of the model learns around layers that stay as they were.

    How it decides
        For weights with two or more dimensions, the rule divides the norm of the update by the norm
        of the weight, in groups of ten steps; about a thousandth is typical. It looks for three
        cases. All weights: in the first {num_groups:g} groups of an optimizer (in every group, if
        the run ends earlier) the weights change by less than {max_ratio:g}, the loss has not fallen
        by {min_fall:.0%}, and the learning rate is below {max_lr:g} and not rising. This uses the
        median over the weights. With SGD, updates also shrink with the gradient, so the rule uses
        the weight that changes most; the learning rate must be below {max_plain_lr:g} and the
        update above {min_slope:g} times the learning rate, because otherwise it is the gradient
        that is small. A loss that is negative at any point is not judged. A parameter group: its
        weights change by less than {max_ratio:g} throughout, while those of another group of the
        same optimizer change {min_contrast:g} times as much and the gradients do not differ by that
        much. From some step on: updates were larger before, the learning rate has fallen to
        {max_decay:g} of its highest value or less, and updates were below {max_ratio:g} for the
        last {min_share:.0%} of the run, although the loss is still above {min_loss:.0%} of what it
        was and the gradient has not shrunk as far. This can be decided only at the end of the run.

    False alarms
        A learning rate that is meant to be this low, as in the final fine-tuning of a trained
        model. The end of a schedule that decays to zero is not reported.

    What to try
        - Adam and AdamW: start at 1e-3, or at 1e-5 to 5e-5 for fine-tuning. SGD: start at 0.1 with
          normalised inputs, and lower it from there.
        - Print `optimizer.param_groups` after some steps: it shows every learning rate.
        - Check that `scheduler.step()` is called as the schedule assumes: per batch or per epoch.

    References
        - Stanford CS231n, Neural networks 3: the ratio of updates to weights.
        - Smith (2017), Cyclical learning rates: the learning rate range test.
    """

    code = "SG108"
    name = "update-too-small"
    severity = "warning"
    needs = ("update_ratio",)

    max_ratio: float = 3e-5
    num_groups: int = 2
    min_fall: float = 0.05  # of the first loss
    max_lr: float = 2e-6
    max_plain_lr: float = 1e-3
    min_slope: float = 5e-3  # update ratio / learning rate
    min_contrast: float = 1e3
    max_decay: float = 0.01  # of the highest learning rate
    min_share: float = 0.5  # of the run
    min_loss: float = 0.3  # of the first

    _tracks: dict[int, SmallUpdateTrack] = memory(dict[int, SmallUpdateTrack])
    _sources: SettingSources = memory(SettingSources)

    def learn(self, fact: Fact) -> Iterable[Finding]:
        self._sources.learn(fact)
        return ()

    def judge(self, step_group: StepGroup) -> None:
        optimizer = step_group.optimizer
        if optimizer not in self._tracks:
            self._tracks[optimizer] = SmallUpdateTrack.begin(step_group)
        track = self._tracks[optimizer]
        track.add(step_group, self)
        if optimizer not in self.found:
            self._decide(track, self.num_groups)
        elif track.is_still or track.slow_group is not None:
            self.found.extend(step_group.last_step, optimizer)

    def finish(self) -> Iterable[Finding]:
        for step_group in self.step_groups.rest(self.min_evaluated // 2):
            if step_group.number > 0 or step_group.num_steps >= self.min_evaluated:
                self.judge(step_group)
        for optimizer, track in self._tracks.items():
            if optimizer not in self.found:
                self._decide(track, 1)
            if optimizer not in self.found and self._stops_early(track):
                self.found.add(self._finding(track, track.since))
        return self.found.take()

    def _decide(self, track: SmallUpdateTrack, needed: int) -> None:
        """Judge all groups up to now, of which there must be enough."""
        if track.slow_group is not None and needed <= track.num_slow == track.num:
            self.found.add(self._finding(track, track.start.step, track.slow_group))
        elif track.num_still >= needed and self._is_low_from_the_start(track):
            self.found.add(self._finding(track, track.start.step))

    def _is_low_from_the_start(self, track: SmallUpdateTrack) -> bool:
        if not track.is_judged or track.has_moved or track.has_fallen(self.min_fall):
            return False
        lr = track.last.last_lr
        if lr > 1.001 * track.lr_at_first:
            return False  # still rising
        if track.last.kind in PLAIN:
            return lr < self.max_plain_lr and track.steepest >= self.min_slope * lr
        return lr < self.max_lr

    def _stops_early(self, track: SmallUpdateTrack) -> bool:
        """Return whether the schedule came to almost zero too early."""
        return (
            track.has_moved
            and track.is_judged
            and track.num_still >= max(self.num_groups, self.min_share * track.num)
            and track.last.last_lr <= self.max_decay * track.highest_lr
            and track.last.loss_level > self.min_loss * track.start.loss
            and median(track.last.grad_norm) > self.min_loss * track.start.grad_norm
        )

    def _finding(self, track: SmallUpdateTrack, first: int, group: int | None = None) -> Finding:
        last, seen = track.last, track.measured
        columns = [at for at, each in enumerate(seen.weights) if group in (None, each.group)]
        names = tuple(seen.weights[column].name for column in columns)
        row, largest = divmod(int(np.nanargmax(seen.ratio[:, columns])), len(columns))
        step, ratio = int(seen.steps[row]), float(seen.ratio[row, columns[largest]])
        where, excerpt = last.where, SHOW_GROUPS
        if group is None and not track.has_moved:
            factor = raising(track)
            change = self._sources.rate_times(last.optimizer, factor, last.last_step)
            excerpt = raised(last, factor) if change is None else change.text
            where = last.where if change is None else change.where
        return self.finding(
            *too_small(track, (names[largest], step, ratio), first, group),
            excerpt,
            optimizer=last.optimizer,
            first_step=first,
            last_step=last.last_step,
            parameters=names,
            evidence=known(
                Evidence("update_ratio", names[largest], step, ratio, self.max_ratio),
                Evidence("loss", "", last.last_step, last.loss_level, track.start.loss),
            ),
            where=where,
        )
