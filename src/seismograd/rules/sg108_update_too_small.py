"""SG108 update-too-small."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.medians import median
from seismograd.analysis.shared_block import SharedBlock, SharedReaders
from seismograd.analysis.step_group_collector import StepGroupCollector
from seismograd.analysis.step_groups import StepGroup
from seismograd.diagnosis.rule import Rule
from seismograd.i18n import Message, say
from seismograd.schema import Evidence, Finding

PLAIN = ("SGD",)  # optimizers whose update shrinks with the gradient


@final
@dataclass
class UpdateTooSmall(Rule):
    """The learning rate is too low: the weights hardly change, although they get a gradient.

    What it finds
        A learning rate that is too low by orders of magnitude, such as 1e-7 instead of 1e-3; a
        schedule that starts at zero and stays there, or that falls to almost nothing long before
        the end; a parameter group whose learning rate is zero or close to it.

    Why it hurts
        Nothing breaks, and nothing is learned: the loss stays where it started, and it looks as if
        the model were too weak or the task too hard. If only one group is affected, the rest of the
        model learns around layers that stay as they were initialised.

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
        model. A run that is cut off during a long warm-up is not reported, nor is the end of a
        schedule that decays to zero.

    What to try
        - Adam and AdamW: start at 1e-3, or at 1e-5 to 5e-5 for fine-tuning. SGD: start at 0.1 with
          normalised inputs, and lower it from there.
        - Print `optimizer.param_groups` after some steps: it shows the learning rate of every
          group, as set by the schedule.
        - Check how often `scheduler.step()` is called: per batch or per epoch, whichever the
          numbers in the schedule assume.

    References
        - Stanford CS231n, Neural networks 3: the ratio of updates to weights.
        - Smith (2017), Cyclical learning rates: the learning rate range test.
    """

    code: ClassVar[str] = "SG108"
    name: ClassVar[str] = "update-too-small"
    severity: ClassVar[str] = "warning"
    needs: ClassVar[tuple[str, ...]] = ("update_ratio",)

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
    min_evaluated: int = 10  # steps

    _step_groups: StepGroupCollector = field(
        default_factory=StepGroupCollector, init=False, repr=False
    )
    _tracks: dict[int, _SmallUpdateTrack] = field(
        default_factory=dict[int, "_SmallUpdateTrack"], init=False, repr=False
    )

    def read_with(self, readers: SharedReaders) -> None:
        self._step_groups = readers.step_groups

    def observe(self, block: SharedBlock) -> Iterable[Finding]:
        for step_group in block.read_by(self._step_groups):
            self._judge(step_group, at_end=False)
        return self.found.take()

    def finish(self) -> Iterable[Finding]:
        for step_group in self._step_groups.rest(self.min_evaluated // 2):
            self._judge(step_group, at_end=True)
        for optimizer, track in self._tracks.items():
            if optimizer not in self.found and track.step_group is not None:
                self._keep(
                    self._from_the_start(track, track.step_group, 1)
                    or self._since(track, track.step_group)
                )
        return self.found.take()

    def shortfall(self) -> Message | None:
        steps = self._step_groups.num_steps
        if steps < self.min_evaluated:
            return say(
                "needs {needed} steps with an update, has {has}",
                needed=self.min_evaluated,
                has=steps,
            )
        return None

    def _judge(self, step_group: StepGroup, at_end: bool) -> None:
        track = self._tracks.get(step_group.optimizer)
        if track is None:
            track = self._tracks[step_group.optimizer] = _SmallUpdateTrack(
                step_group.first_step,
                step_group.loss_level,
                step_group.first_lr,
                median(step_group.grad_norm),
            )
        if at_end and step_group.number == 0 and step_group.num_steps < self.min_evaluated:
            return
        self._take(track, step_group)
        if step_group.optimizer not in self.found:
            self._keep(self._from_the_start(track, step_group, self.num_groups))
        elif track.is_still or track.slow_group is not None:
            self.found.extend(step_group.last_step, step_group.optimizer)

    def _keep(self, finding: Finding | None) -> None:
        if finding is not None:
            self.found.add(finding)

    def _take(self, track: _SmallUpdateTrack, step_group: StepGroup) -> None:
        track.step_group, track.num = step_group, track.num + 1
        track.is_judged &= not step_group.batch.below_zero[step_group.index]
        track.highest_lr = max(track.highest_lr, step_group.batch.highest_lrs[step_group.index])
        ratio = (
            step_group.batch.largest_moves
            if step_group.kind in PLAIN
            else step_group.batch.usual_moves
        )[step_group.index]
        if math.isnan(ratio):
            return
        track.is_still, track.steepest = ratio < self.max_ratio, max(track.steepest, ratio)
        if track.is_still:
            track.since = step_group.first_step if track.num_still == 0 else track.since
            track.num_still += 1
        else:
            track.num_still, track.has_moved = 0, True
        if track.num_still <= 1:
            track.lr_at_first = step_group.first_lr
        group = (
            self._slow_group(step_group) if step_group.batch.weights.has_several_groups else None
        )
        track.num_slow = (
            track.num_slow + 1
            if group is not None and group in (track.slow_group, None)
            else int(group is not None)
        )
        track.slow_group = group

    def _slow_group(self, step_group: StepGroup) -> int | None:
        """Return the parameter group that stays behind the others."""
        of, ratios = step_group.batch.weights.groups, step_group.batch.moves[step_group.index]
        known = np.isfinite(ratios)
        groups, position = np.unique(of[known & (of >= 0)], return_inverse=True)
        if len(groups) < 2:
            return None
        largest = np.full(len(groups), -np.inf)
        np.maximum.at(largest, position, ratios[known & (of >= 0)])
        fastest = int(np.argmax(largest))
        for slow in np.flatnonzero(
            (largest < self.max_ratio) & (largest * self.min_contrast <= largest[fastest])
        ):
            norms = [
                median(
                    np.nanmax(step_group.norm[:, known & (of == groups[each])], axis=1, initial=0)
                )
                for each in (slow, fastest)
            ]
            if step_group.kind not in PLAIN or norms[0] * self.min_contrast > norms[1] * 10:
                return int(groups[slow])
        return None

    def _from_the_start(
        self, track: _SmallUpdateTrack, step_group: StepGroup, needed: int
    ) -> Finding | None:
        if (
            track.slow_group is not None
            and track.num_slow >= needed
            and track.num_slow == track.num
        ):
            return self._finding(track, step_group, track.first_step, track.slow_group)
        if (
            not track.is_judged
            or track.has_moved
            or track.num_still < needed
            or track.has_fallen(step_group, self.min_fall)
        ):
            return None
        lr = step_group.last_lr
        rising = lr > 1.001 * track.lr_at_first
        low = (
            lr < self.max_plain_lr and track.steepest >= self.min_slope * lr
            if step_group.kind in PLAIN
            else lr < self.max_lr
        )
        return (
            None if rising or not low else self._finding(track, step_group, track.first_step, None)
        )

    def _since(self, track: _SmallUpdateTrack, step_group: StepGroup) -> Finding | None:
        """Return since when the schedule has been at almost zero, if that was too early."""
        long = track.num_still >= max(self.num_groups, self.min_share * track.num)
        if (
            not track.has_moved
            or not long
            or step_group.last_lr > self.max_decay * track.highest_lr
        ):
            return None
        low = (
            not track.is_judged
            or not step_group.loss_level > self.min_loss * track.first_loss
            or not median(step_group.grad_norm) > self.min_loss * track.first_norm
        )
        return None if low else self._finding(track, step_group, track.since, None)

    def _finding(
        self, track: _SmallUpdateTrack, step_group: StepGroup, first: int, group: int | None
    ) -> Finding:
        chosen = [
            column
            for column, each in enumerate(step_group.weights)
            if group is None or each.group == group
        ]
        ratios = np.where(np.isfinite(step_group.ratio[:, chosen]), step_group.ratio[:, chosen], -1)
        row, position = (
            int(each) for each in np.unravel_index(int(np.argmax(ratios)), ratios.shape)
        )
        names = tuple(step_group.weights[column].name for column in chosen)
        values: dict[str, str | int | float] = {
            "parameter": names[position],
            "ratio": float(ratios[row, position]),
            "step": int(step_group.steps[row]),
            "loss": step_group.loss_level,
            "first_loss": track.first_loss,
            "lr": step_group.last_lr,
            "since": first,
            "highest": track.highest_lr,
            "group": -1 if group is None else group,
        }
        evidence = [
            Evidence(
                "update_ratio",
                names[position],
                int(step_group.steps[row]),
                float(ratios[row, position]),
                self.max_ratio,
            )
        ]
        if not math.isnan(step_group.loss_level):
            evidence.append(
                Evidence("loss", "", step_group.last_step, step_group.loss_level, track.first_loss)
            )
        return self.finding(
            optimizer=step_group.optimizer,
            first_step=first,
            last_step=step_group.last_step,
            parameters=names,
            evidence=tuple(evidence),
            cause=_cause(values, group is not None, track.has_moved),
            advice=_advice(values, group is not None, track.has_moved, step_group.kind),
            where=step_group.where,
            excerpt="print([(group['lr'], len(group['params'])) for group in "
            "optimizer.param_groups])",
        )


@dataclass(slots=True)
class _SmallUpdateTrack:
    """The state of one optimizer."""

    first_step: int
    first_loss: float  # median of its first group
    lr_at_first: float  # where the weights began to stand still
    first_norm: float  # of the gradient
    highest_lr: float = 0.0
    num: int = 0  # groups
    num_still: int = 0  # groups in a row until now in which no weight moved
    num_slow: int = 0  # the same in which a parameter group stayed behind
    since: int = -1  # the iteration in which `num_still` began
    steepest: float = 0.0  # ratio
    is_still: bool = False
    is_judged: bool = True
    has_moved: bool = False
    slow_group: int | None = None
    step_group: StepGroup | None = None  # the last

    def has_fallen(self, step_group: StepGroup, share: float) -> bool:
        """Return whether the loss has fallen by more than this share, and by more than it
        scatters.
        """
        return self.first_loss - step_group.loss_level > (share + step_group.loss_noise) * abs(
            self.first_loss
        )


def _cause(values: dict[str, str | int | float], of_group: bool, has_moved: bool) -> Message:
    if of_group:
        return say(
            "parameter group {group} hardly changes: at step {step} the update of {parameter} is "
            "{ratio:.2g} of its size, thousands of times less than in other groups, although its "
            "gradient is no smaller: the learning rate of this group is zero or far too low",
            **values,
        )
    if has_moved:
        return say(
            "since step {since} the weights have hardly changed: the learning rate has fallen from "
            "{highest:.2g} to {lr:.2g}, so an update is at most {ratio:.2g} of a weight, while the "
            "loss is still {loss:.3g}",
            **values,
        )
    return say(
        "the learning rate is too low: at {lr:.2g} an update is at most {ratio:.2g} of a weight "
        "({parameter}, step {step}), where a thousandth is typical, and the loss has not moved "
        "from {first_loss:.3g}",
        **values,
    )


def _advice(
    values: dict[str, str | int | float], of_group: bool, has_moved: bool, kind: str
) -> Message:
    if of_group:
        return say(
            "set the intended learning rate for parameter group {group}, or leave its parameters "
            "out of the optimizer",
            **values,
        )
    if has_moved:
        return say(
            "make the schedule as long as the run: check whether scheduler.step() is called per "
            "batch or per epoch"
        )
    if values["lr"] == 0:
        return say(
            "the schedule starts at zero and stays there: check its first values and how often "
            "scheduler.step() is called"
        )
    if kind in PLAIN:
        return say(
            "raise the learning rate by a factor of a hundred and check the updates again; SGD "
            "often starts at 0.1 or 0.01"
        )
    return say(
        "raise the learning rate by a factor of a hundred and check the updates again; {kind} "
        "often starts at 1e-3",
        kind=kind,
    )
