"""SG106 lost-updates."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, final

import numpy as np

from seismograd.analysis.block_rows import as_list
from seismograd.analysis.medians import median
from seismograd.analysis.step_groups import EPSILON, StepGroup
from seismograd.diagnosis.step_group_rule import StepGroupRule
from seismograd.i18n import say
from seismograd.schema import Evidence, Finding, FloatArray, IntArray


@final
@dataclass
class LostUpdates(StepGroupRule):
    """Updates are so small compared with the weights that rounding cancels them: the weights do not
    change.

    What it finds
        Weights kept in bfloat16 or float16 whose updates are mostly lost to rounding, although the
        gradient and the learning rate are fine.

    Why it hurts
        bfloat16 has eight significant bits: the next number after 1.0 is 1.0078, and adding less
        than half of that difference changes nothing. A typical update, a thousandth of the weight,
        is lost in most scalars. The loss stays where it is, or falls much more slowly than it
        should, and the gradient shows no sign of it.

    How it decides
        Of the scalars that had a gradient, the rule takes the share that an update left exactly
        unchanged: the median over the weights with two or more dimensions that are kept in sixteen
        bits, in groups of ten steps. The updates are lost if this share is at least
        {min_unmoved:.0%} in each of the first {num_groups:g} groups (in all groups, if the run ends
        earlier), the learning rate is neither zero nor still rising, and the loss has not fallen by
        {min_fall:.0%}.

    False alarms
        An optimizer with stochastic rounding changes few scalars in each step, but the right amount
        on average.

    What to try
        - Keep the weights in float32 and compute in sixteen bits: use `torch.autocast("cuda",
          dtype=torch.bfloat16)` around the forward pass, without `model.bfloat16()`.
        - Or use an optimizer that keeps a float32 copy of the weights or rounds stochastically.
        - A larger learning rate does change the weights, but is seldom what the model needs.

    References
        - Micikevicius et al. (2018), Mixed precision training: why a master copy of the weights is
          kept.
        - Zamirai et al. (2020), Revisiting BFloat16 training.
    """

    code: ClassVar[str] = "SG106"
    name: ClassVar[str] = "lost-updates"
    severity: ClassVar[str] = "warning"
    needs: ClassVar[tuple[str, ...]] = ("unmoved",)
    absorbs: ClassVar[tuple[str, ...]] = ("SG108",)

    min_unmoved: float = 0.9
    num_groups: int = 2
    min_fall: float = 0.2  # of the first loss

    _tracks: dict[int, _LostUpdateTrack] = field(
        default_factory=dict[int, "_LostUpdateTrack"], init=False, repr=False
    )

    def finish(self) -> Iterable[Finding]:
        for step_group in self.step_groups.rest(self.min_evaluated):
            self.judge(step_group)
        for optimizer, track in self._tracks.items():
            if (
                optimizer not in self.found
                and track.step_group is not None
                and track.step_group.number + 1 < self.num_groups
            ):
                self._decide(track, track.step_group, track.step_group.number + 1)
        return self.found.take()

    def judge(self, step_group: StepGroup) -> None:
        track = self._tracks.get(step_group.optimizer)
        if track is None:
            track = self._tracks[step_group.optimizer] = _LostUpdateTrack(
                step_group.first_step, step_group.loss_level, step_group.first_lr
            )
        track.step_group, track.lost = step_group, False
        short = step_group.batch.weights.in_few_digits
        if not len(short):
            return
        unmoved = step_group.batch.unmoved_shares[step_group.index, short]
        known = np.isfinite(unmoved)
        track.lost = bool(known.any()) and median(unmoved[known]) >= self.min_unmoved
        track.num = track.num + 1 if track.lost and track.num == step_group.number else track.num
        if track.lost:
            track.positions, track.unmoved = short[known], unmoved[known]
        if step_group.optimizer not in self.found:
            self._decide(track, step_group, self.num_groups)
        elif track.lost:
            self.found.extend(step_group.last_step, step_group.optimizer)

    def _decide(self, track: _LostUpdateTrack, step_group: StepGroup, needed: int) -> None:
        fallen = track.first_loss - step_group.loss_level > self.min_fall * abs(track.first_loss)
        lr = step_group.last_lr
        if track.lost and track.num >= needed and not fallen and 0 < lr <= 1.001 * track.first_lr:
            self.found.add(self._finding(track, step_group))

    def _finding(self, track: _LostUpdateTrack, step_group: StepGroup) -> Finding:
        middle = int(np.argsort(track.unmoved)[len(track.unmoved) // 2])
        column = int(track.positions[middle])
        row = int(np.flatnonzero(np.isfinite(step_group.unmoved[:, column]))[0])
        weight, step, share = (
            step_group.weights[column],
            int(step_group.steps[row]),
            float(step_group.unmoved[row, column]),
        )
        evidence = [Evidence("unmoved", weight.name, step, share, self.min_unmoved)]
        if not math.isnan(step_group.loss_level):
            evidence.append(
                Evidence("loss", "", step_group.last_step, step_group.loss_level, track.first_loss)
            )
        return self.finding(
            optimizer=step_group.optimizer,
            first_step=track.first_step,
            last_step=step_group.last_step,
            parameters=tuple(
                step_group.weights[position].name
                for position in as_list(track.positions[track.unmoved >= self.min_unmoved])
            ),
            evidence=tuple(evidence),
            cause=say(
                "updates are lost to rounding: at step {step} the update left {percent:.3g}% of "
                "the scalars of {parameter} exactly unchanged, because {dtype} cannot represent a "
                "relative change smaller than {epsilon:.2g}",
                step=step,
                percent=100 * share,
                parameter=weight.name,
                dtype=weight.dtype,
                epsilon=EPSILON[weight.dtype],
            ),
            advice=say(
                "keep the weights in float32 and let autocast compute in {dtype}: remove "
                "model.to(torch.{dtype})",
                dtype=weight.dtype,
            ),
            where=step_group.where,
            excerpt=f'model.float()\nwith torch.autocast("cuda", dtype=torch.{weight.dtype}):\n    '
            "loss = criterion(model(x), y)",
        )


@dataclass(slots=True)
class _LostUpdateTrack:
    """The state of one optimizer."""

    first_step: int
    first_loss: float  # median of its first group
    first_lr: float
    num: int = 0  # groups from the first on without exception
    lost: bool = False  # in the last group
    step_group: StepGroup | None = None  # the last
    # of the weights in the last group that was lost
    positions: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))
    unmoved: FloatArray = field(default_factory=lambda: np.zeros(0))
