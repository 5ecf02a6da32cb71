"""SG106 lost-updates."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

from seismograd.analysis.block_rows import as_list
from seismograd.analysis.lost_updates import LostUpdateTrack
from seismograd.analysis.step_groups import EPSILON, StepGroup, TrainingStart
from seismograd.analysis.training_stages import TrainingStages
from seismograd.diagnosis.rule import known, memory
from seismograd.diagnosis.step_group_rule import StepGroupRule
from seismograd.i18n import say
from seismograd.schema import Evidence, Fact, Finding


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
        is lost in most scalars. The loss hardly falls, and the gradient shows no sign of it.

    How it decides
        Of the scalars that had a gradient, the rule takes the share that an update left exactly
        unchanged: the median over the weights with two or more dimensions that are kept in sixteen
        bits, in groups of ten steps. The updates are lost if this share is at least
        {min_unmoved:.0%} in each of the first {num_groups:g} groups (in all groups, if the run ends
        earlier), or at least {min_mostly:.0%} in each of the first {num_mostly:g}, the learning
        rate is neither zero nor still rising, and the loss has not fallen by {min_fall:.0%}. The
        first groups are those of the training, or of a new optimizer in the place of another.

    False alarms
        Stochastic rounding: it changes few scalars in each step, but the right amount on average.

    What to try
        - Keep the weights in float32 and compute in sixteen bits: use `torch.autocast("cuda",
          dtype=torch.bfloat16)` around the forward pass, without `model.bfloat16()`.
        - Or use an optimizer that keeps a float32 copy of the weights or rounds stochastically.

    References
        - Micikevicius et al. (2018), Mixed precision training: master copies of weights.
        - Zamirai et al. (2020), Revisiting BFloat16 training.
    """

    code = "SG106"
    name = "lost-updates"
    severity = "warning"
    needs = ("unmoved",)
    absorbs = ("SG108",)

    min_unmoved: float = 0.9
    num_groups: int = 2
    min_mostly: float = 0.75
    num_mostly: int = 5  # groups
    min_fall: float = 0.2  # of the first loss

    _tracks: dict[int, LostUpdateTrack] = memory(dict[int, LostUpdateTrack])
    _stages: TrainingStages = memory(TrainingStages)
    _limits: dict[int, float] = memory(dict[int, float])  # of what was found

    def learn(self, fact: Fact) -> Iterable[Finding]:
        self._stages.learn(fact)
        return ()

    def judge(self, step_group: StepGroup) -> None:
        optimizer = step_group.optimizer
        track = self._tracks.get(optimizer)
        begun = self._stages.begun_by(optimizer, step_group.first_step)
        if track is None or begun > track.start.step:
            track = self._tracks[optimizer] = LostUpdateTrack.of(step_group)
        track.add(step_group, max(self.num_groups, self.num_mostly))
        if optimizer not in self.found:
            self._decide(track, self.num_groups, self.min_unmoved)
            self._decide(track, self.num_mostly, self.min_mostly)
        elif track.share >= self._limits[optimizer]:
            self.found.extend(step_group.last_step, optimizer)

    def finish(self) -> Iterable[Finding]:
        super().finish()
        for track in self._tracks.values():
            if track.num_groups < self.num_groups:
                self._decide(track, track.num_groups, self.min_unmoved)
        return self.found.take()

    def _decide(self, track: LostUpdateTrack, num: int, min_unmoved: float) -> None:
        start, last = track.start, track.last
        if last.optimizer in self.found or not track.is_lost(num, min_unmoved):
            return
        has_fallen = start.loss - last.loss_level > self.min_fall * abs(start.loss)
        rises = not 0 < last.last_lr <= 1.001 * start.lr
        if not has_fallen and not rises:
            self._limits[last.optimizer] = min_unmoved
            self.found.add(self._finding(track, start, last))

    def _finding(self, track: LostUpdateTrack, start: TrainingStart, last: StepGroup) -> Finding:
        row, column = track.middle()
        limit = self._limits[last.optimizer]
        weight, dtype = last.weights[column].name, last.weights[column].dtype
        step, share = int(last.steps[row]), float(last.unmoved[row, column])
        lost = as_list(track.columns[track.unmoved >= limit])
        values = {"step": step, "percent": 100 * share, "parameter": weight, "dtype": dtype}
        return self.finding(
            optimizer=last.optimizer,
            first_step=start.step,
            last_step=last.last_step,
            parameters=tuple(last.weights[position].name for position in lost),
            evidence=known(
                Evidence("unmoved", weight, step, share, limit),
                Evidence("loss", "", last.last_step, last.loss_level, start.loss),
            ),
            cause=say(
                "updates are lost to rounding: at step {step} the update left {percent:.3g}% of "
                "the scalars of {parameter} exactly unchanged, because {dtype} cannot represent a "
                "relative change smaller than {epsilon:.2g}",
                **values,
                epsilon=EPSILON[dtype],
            ),
            advice=say(
                "keep the weights in float32 and let autocast compute in {dtype}: remove "
                "model.to(torch.{dtype})",
                dtype=dtype,
            ),
            where=last.where,
            excerpt=f'model.float()\nwith torch.autocast("cuda", dtype=torch.{dtype}):\n    '
            "loss = criterion(model(x), y)",
        )
