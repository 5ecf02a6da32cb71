"""Follow how far the weights of one optimizer move, from its first step on."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from seismograd.analysis.block_rows import BoolArray, statistic, weight_norms
from seismograd.analysis.chance_level import plain_loss
from seismograd.analysis.medians import column_medians, median
from seismograd.analysis.parameter_index import is_weight
from seismograd.analysis.step_groups import StepGroup
from seismograd.schema import FloatArray, RowBatch, State, StepFlag

PLAIN = ("SGD",)  # whose first update is the learning rate times the gradient
# whose first update is the learning rate in every scalar that has a gradient
BY_SIGN = ("Adam", "AdamW", "Adamax", "Lion")


@dataclass(frozen=True, slots=True)
class RelativeUpdate:
    """How far the weights moved: the median ratio, and one weight near to it."""

    ratio: float = 0.0
    step: int = -1
    parameter: str = ""
    value: float = 0.0
    lr: float = 0.0


@dataclass(slots=True)
class LargeUpdateTrack:
    """The state of one optimizer."""

    first_loss: float
    first_norm: float  # of the gradient
    at_first: RelativeUpdate
    shown: RelativeUpdate
    plain_loss: float  # the first loss, where it is a plain mean
    group: float = 0.0  # ratio of the last group
    recent: float = 0.0  # the larger of the last two
    largest_group: float = 0.0
    since: int = -1  # the first iteration with a lasting ratio
    lowest: float = math.inf  # loss of a group
    num_lasting: int = 0  # groups
    num_stuck: int = 0  # groups
    is_judged: bool = True

    @classmethod
    def begin(
        cls, block: RowBatch, row: int, optimizer: int, *, explodes: bool
    ) -> LargeUpdateTrack:
        """Return the state after an optimizer's first step. Its loss says nothing where the
        gradient `explodes` before any update.
        """
        step, moved = block.steps[row], _first_update(block, row, optimizer)
        unknown = int(step["flags"]) & int(StepFlag.NO_LOSS) or explodes
        loss = math.nan if unknown else float(step["loss"])
        return cls(loss, float(step["grad_norm"]), moved, moved, plain_loss(block, row))

    def add(self, step_group: StepGroup, lasting_ratio: float, max_growth: float) -> bool:
        """Add the next group: how far the weights moved while the gradient was still of its first
        size. Return whether it was throughout.
        """
        batch, index, limit = step_group.batch, step_group.index, max_growth * self.first_norm
        self.lowest = min(self.lowest, step_group.loss_level)
        is_calm = batch.highest_norms[index] <= limit

        def calm() -> BoolArray:  # the steps
            return step_group.grad_norm <= limit

        if is_calm:
            ratios, ratio = batch.ratios[index], batch.ratio_levels[index]
        else:
            ratios = column_medians(np.where(calm()[:, None], step_group.ratio, np.nan))
            ratio = median(ratios)
        previous = self.group if step_group.number > 0 else self.at_first.ratio
        self.group = 0.0 if math.isnan(ratio) else ratio
        self.recent = max(self.group, previous)
        self.largest_group = max(self.largest_group, self.group)
        self.num_lasting = self.num_lasting + 1 if ratio >= lasting_ratio else 0
        if self.since < 0 and previous >= lasting_ratio:
            self.since = self.at_first.step
        elif self.since < 0 and batch.largest_ratios[index] >= lasting_ratio:
            large = (np.where(calm()[:, None], step_group.ratio, 0) >= lasting_ratio).any(axis=1)
            self.since = int(step_group.steps[large][0]) if large.any() else -1
        if self.group > self.shown.ratio:
            column = _nearest(ratios, ratio)
            row = int(np.flatnonzero(calm() & np.isfinite(step_group.ratio[:, column]))[0])
            self.shown = RelativeUpdate(
                ratio,
                int(step_group.steps[row]),
                step_group.weights[column].name,
                float(step_group.ratio[row, column]),
            )
        return is_calm


def _first_update(block: RowBatch, row: int, optimizer: int) -> RelativeUpdate:
    """Return the effect of an optimizer's first step on the weights, as the learning rate and the
    gradient determine it.
    """
    step = block.steps[row]
    moved = RelativeUpdate(lr=float(step["lr"]), step=int(step["iteration"]))
    sampled = weight_norms(block, row)
    kind = next((each.kind for each in block.optimizers if each.index == optimizer), "")
    columns = [
        column
        for column, each in enumerate(block.parameters)
        if is_weight(each) and each.optimizer == optimizer and not each.group
    ]
    if sampled is None or kind not in (*PLAIN, *BY_SIGN) or not columns:
        return moved
    usable = (block.state[row, columns] == State.FINITE) & (sampled[columns] > 0)
    if kind in PLAIN:
        norm = statistic(block, "applied_norm")[row, columns]
    else:  # the scalars with a gradient that is not zero
        numel = np.array([block.parameters[column].numel for column in columns], np.float64)
        norm = np.maximum(numel - statistic(block, "zeros")[row, columns], 0) ** 0.5
    ratios = np.where(usable, moved.lr * norm / np.where(usable, sampled[columns], 1), np.nan)
    middle = median(ratios)
    if math.isnan(middle):
        return moved
    nearest = _nearest(ratios, middle)
    name = block.parameters[columns[nearest]].name
    return replace(moved, ratio=middle, parameter=name, value=float(ratios[nearest]))


def _nearest(values: FloatArray, value: float) -> int:
    return int(np.nanargmin(np.abs(np.where(np.isfinite(values), values, np.nan) - value)))
