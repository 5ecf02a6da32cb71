"""Groups of ten steps of one optimizer, and the numbers that several rules need of them, computed
for many groups at once.

Shapes: K groups, n steps of each, M weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from seismograd.analysis.block_rows import BoolArray
from seismograd.analysis.chance_level import chance_loss
from seismograd.analysis.medians import median, medians
from seismograd.schema import FloatArray, IntArray, Parameter, Site

EPSILON = {"bfloat16": 2.0**-8, "float16": 2.0**-11}  # half the distance from 1 to the next number


@dataclass(frozen=True, eq=False)
class GroupWeights:
    """The weights in the columns of groups. Groups with the same columns hold the same object."""

    parameters: tuple[Parameter, ...]  # (M,)
    positions: IntArray  # their numbers in the roster, ascending  # (M,)

    @cached_property
    def guess(self) -> float:
        """Return the loss of a classifier that only guesses; NaN: this is none."""
        return chance_loss(self.parameters)

    @cached_property
    def groups(self) -> IntArray:
        """Return the parameter group of each; -1: not known."""
        return np.array(
            [-1 if each.group is None else each.group for each in self.parameters], np.int64
        )

    @cached_property
    def has_several_groups(self) -> bool:
        """Return whether there are two known parameter groups."""
        return len({each.group for each in self.parameters} - {None}) > 1

    @cached_property
    def in_few_digits(self) -> IntArray:
        """Return the columns of those that are kept in a dtype of half precision."""
        return np.array(
            [column for column, each in enumerate(self.parameters) if each.dtype in EPSILON],
            np.int64,
        )


@dataclass(frozen=True, eq=False)
class StepGroupBatch:
    """Consecutive groups of one optimizer."""

    weights: GroupWeights
    steps: IntArray  # iterations  # (K, n)
    loss: FloatArray  # NaN: not known, or not a number  # (K, n)
    lr: FloatArray  # (K, n)
    grad_norm: FloatArray  # (K, n)
    ratio: FloatArray  # norm of the update / norm of the weight; NaN: not probed  # (K, n, M)
    unmoved: FloatArray  # (K, n, M)
    norm: FloatArray  # of the gradient; NaN: none  # (K, n, M)

    @cached_property
    def loss_levels(self) -> list[float]:
        """Return the median of the finite losses, NaN without any  # (K,)."""
        return self._loss_level.tolist()

    @cached_property
    def loss_noises(self) -> list[float]:
        """Return how far losses lie from their median, as a share of it: that of a normal
        distribution with the same quartiles  # (K,).
        """
        known, level = self._known_losses, self._loss_level
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            scatter = medians(np.abs(self.loss - level[:, None]), known, axis=1)
            noise = 1.4826 * scatter / np.abs(level)
        return np.where(known.any(axis=1) & (level != 0), noise, 0.0).tolist()

    @cached_property
    def peaks(self) -> list[float]:
        """Return the largest finite loss, at least 0  # (K,)."""
        return np.maximum(np.where(self._known_losses, self.loss, 0).max(axis=1), 0).tolist()

    @cached_property
    def below_zero(self) -> list[bool]:
        """Return whether a loss is negative  # (K,)."""
        return [bool(lowest < 0) for lowest in np.fmin.reduce(self.loss, axis=1)]

    @cached_property
    def highest_lrs(self) -> list[float]:
        """Return the highest learning rate  # (K,)."""
        return self.lr.max(axis=1).tolist()

    @cached_property
    def highest_norms(self) -> list[float]:
        """Return the largest gradient norm, NaN where one is not a number  # (K,)."""
        return self.grad_norm.max(axis=1).tolist()

    @cached_property
    def ratios(self) -> FloatArray:
        """Return the median ratio of each weight over its probes; NaN: none  # (K, M)."""
        return medians(self.ratio, self._probed, axis=1)

    @cached_property
    def ratio_levels(self) -> list[float]:
        """Return the median of those over the weights, NaN without any  # (K,)."""
        return medians(self.ratios, np.isfinite(self.ratios), axis=1).tolist()

    @cached_property
    def largest_ratios(self) -> list[float]:
        """Return the largest ratio of any probe, 0 without one; ignores NaN  # (K,)."""
        return np.nan_to_num(
            np.fmax.reduce(self.ratio.reshape(len(self.ratio), -1), axis=1, initial=0),
            nan=0,
            posinf=np.inf,
        ).tolist()

    @cached_property
    def moves(self) -> FloatArray:
        """Return the same where there was a gradient that is not zero  # (K, M)."""
        return np.where((self.norm > 0).any(axis=1), self.ratios, np.nan)

    @cached_property
    def usual_moves(self) -> list[float]:
        """Return their median over the weights, NaN without any  # (K,)."""
        return medians(self.moves, np.isfinite(self.moves), axis=1).tolist()

    @cached_property
    def largest_moves(self) -> list[float]:
        """Return the largest of them, NaN without any  # (K,)."""
        known = np.isfinite(self.moves)
        return np.where(
            known.any(axis=1), np.where(known, self.moves, 0).max(axis=1, initial=0), np.nan
        ).tolist()

    @cached_property
    def unmoved_shares(self) -> FloatArray:
        """Return the median share of unmoved scalars of each weight over its probes; NaN: none
        # (K, M).
        """
        return medians(self.unmoved, np.isfinite(self.unmoved), axis=1)

    @cached_property
    def _known_losses(self) -> BoolArray:
        return np.isfinite(self.loss)

    @cached_property
    def _loss_level(self) -> FloatArray:
        return medians(self.loss, self._known_losses, axis=1)

    @cached_property
    def _probed(self) -> BoolArray:
        return np.isfinite(self.ratio)


@dataclass(frozen=True, slots=True)
class StepGroup:
    """Consecutive steps of one optimizer with a new gradient, none of them skipped: number
    `index` of a batch.
    """

    optimizer: int
    kind: str  # class of the optimizer
    number: int  # how many preceded it
    site: Site | None  # of the first step
    batch: StepGroupBatch
    index: int

    @property
    def first_step(self) -> int:
        """Return the first iteration."""
        return int(self.batch.steps[self.index, 0])

    @property
    def last_step(self) -> int:
        """Return the last iteration."""
        return int(self.batch.steps[self.index, -1])

    @property
    def num_steps(self) -> int:
        """Return how many steps it has: fewer than usual at the end of a run."""
        return self.batch.steps.shape[1]

    @property
    def steps(self) -> IntArray:
        """Return the iterations  # (n,)."""
        return self.batch.steps[self.index]

    @property
    def first_lr(self) -> float:
        """Return the learning rate of the first step."""
        return float(self.batch.lr[self.index, 0])

    @property
    def last_lr(self) -> float:
        """Return the learning rate of the last step."""
        return float(self.batch.lr[self.index, -1])

    @property
    def grad_norm(self) -> FloatArray:
        """Return the norm of the whole gradient  # (n,)."""
        return self.batch.grad_norm[self.index]

    @property
    def weights(self) -> tuple[Parameter, ...]:
        """Return the weights in the columns  # (M,)."""
        return self.batch.weights.parameters

    @property
    def ratio(self) -> FloatArray:
        """Return the norm of the update / norm of the weight; NaN: not probed  # (n, M)."""
        return self.batch.ratio[self.index]

    @property
    def unmoved(self) -> FloatArray:
        """Return the share of the probed scalars that did not change; NaN: not probed  # (n, M)."""
        return self.batch.unmoved[self.index]

    @property
    def norm(self) -> FloatArray:
        """Return the norm of each gradient; NaN: none  # (n, M)."""
        return self.batch.norm[self.index]

    @property
    def loss_level(self) -> float:
        """Return the median of the finite losses, NaN without any."""
        return self.batch.loss_levels[self.index]

    @property
    def loss_noise(self) -> float:
        """Return how far losses lie from their median, as a share of it."""
        return self.batch.loss_noises[self.index]

    @property
    def where(self) -> str:
        """Return file:line of the first step, empty where it is not known."""
        return "" if self.site is None else str(self.site)


@dataclass(frozen=True, slots=True)
class TrainingStart:
    """What the first group of an optimizer shows, and later ones are held against."""

    step: int
    loss: float  # level
    lr: float
    grad_norm: float  # median

    @classmethod
    def of(cls, first: StepGroup) -> TrainingStart:
        """Return that of this group."""
        return cls(first.first_step, first.loss_level, first.first_lr, median(first.grad_norm))
