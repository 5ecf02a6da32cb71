"""Describe how a training went, beside what the rules say of it: the course of its loss, the loss
of a guess where it is a classifier, and the share of the weights that its last steps moved.

Reads the two ends of the record and a summary of what lies between, whatever its length.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from seismograd.analysis.chance_level import chance_loss, plain_loss
from seismograd.analysis.medians import median
from seismograd.analysis.norm_growth import UNBOUNDED
from seismograd.record.pyramid.step_scalars import STEP_SCALARS
from seismograd.record.reader import Run
from seismograd.schema import (
    AnyArray,
    BoolArray,
    FactKind,
    FloatArray,
    LossDoubt,
    RowBatch,
    State,
    StepFlag,
)

MIN_LOSSES = 10
"""With fewer, the noise of a batch is as large as what was learned."""

MIN_DROP = 0.02
"""A loss that fell by less than this share of itself did not fall."""

GUESS_DISTANCE = 0.03
"""A loss this close to that of a guess is a guess."""

_END_ROWS = 64  # read at each end
_FIRST_LOSSES, _LAST_LOSSES = 5, 20
_MOVED_ROWS = 12  # the probe looks at every parameter within them
_NOISE = 2 * 1.4826 * 1.2533  # two standard errors of a median, from absolute deviations
_PEAK = 3.0


class Trend(StrEnum):
    """What the loss did over the run."""

    FELL = "fell"
    FLAT = "flat"
    NOISY = "noisy"  # it changed, though by no more than it does from batch to batch
    ROSE = "rose"
    UNBOUNDED = "unbounded"  # it fell far below 0, and there is no end to it
    GUESS = "guess"  # it fell to that of a guess, and no further
    NOT_FINITE = "not finite"
    TOO_FEW = "too few"
    SEVERAL = "several"  # losses of several optimizers, whose sum need not fall
    POLICY = "policy"  # log-probabilities times returns, which grow with a better policy
    REPLACED = "replaced"  # the script has put other gradients in place of those of the loss
    NOT_RECORDED = "not recorded"


@dataclass(frozen=True, slots=True)
class LossCourse:
    """The losses of one optimizer's steps: medians over a few at each end."""

    optimizer: str  # its name in the script, or its class
    first_loss: float
    last_loss: float


@dataclass(frozen=True, slots=True)
class TrainingCourse:
    """How a training went.

    `first_loss` and `last_loss` are medians over a few steps at each end, `peak_loss` is the
    largest between; `guess_loss` is ln C of a classifier among `num_classes`; `moved` is the share
    of the weights that the last steps changed. NaN where it is not known. `num_zero` of
    `num_parameters` parameters got a gradient of exactly zero at the last step. Where optimizers
    take turns, each with a loss of its own, `by_optimizer` has theirs.
    """

    trend: Trend
    first_loss: float = math.nan
    last_loss: float = math.nan
    peak_loss: float = math.nan
    guess_loss: float = math.nan
    num_classes: int = 0
    moved: float = math.nan
    num_zero: int = 0
    num_parameters: int = 0
    by_optimizer: tuple[LossCourse, ...] = ()

    @property
    def learned(self) -> bool:
        """Return whether the loss fell, and below that of a guess."""
        return self.trend == Trend.FELL

    @property
    def has_peak(self) -> bool:
        """Return whether the loss was far above both of its ends in between."""
        ends = [abs(each) for each in (self.first_loss, self.last_loss) if math.isfinite(each)]
        return bool(ends) and self.peak_loss > _PEAK * max(ends)


def training_course(run: Run) -> TrainingCourse:
    """Return how the training of this run went."""
    num_rows = run.num_rows
    if not num_rows:
        return TrainingCourse(Trend.NOT_RECORDED)
    middle = min(_END_ROWS, num_rows)
    first = run.row_reader.steps(0, middle)
    last = run.row_reader.steps(max(middle, num_rows - _END_ROWS), num_rows)
    ends = np.concatenate([first, last])
    losses = np.asarray(ends["loss"], np.float64)[(ends["flags"] & int(StepFlag.NO_LOSS)) == 0]
    moved, num_zero, num_parameters = _weights(run)
    guess, num_classes = _guess(run)
    known = losses[np.isfinite(losses)]
    if not len(losses):
        return TrainingCourse(
            Trend.NOT_RECORDED,
            moved=moved,
            num_zero=num_zero,
            num_parameters=num_parameters,
        )
    num = max(1, min(len(known) // 5, _LAST_LOSSES))
    num_first = min(num, _FIRST_LOSSES)
    is_finite = int(np.isfinite(losses[-num:]).sum()) * 2 > min(num, len(losses))
    begun, ended = median(known[:num_first]), median(known[-num:]) if is_finite else math.nan
    peak = _peak(run)
    if len(known) and math.isclose(known[0], peak) and peak > _PEAK * max(abs(begun), abs(ended)):
        begun = float(known[0])  # the next loss is far below, as of LBFGS: nothing rose in between
    by_optimizer = _in_turn(run, ends, last)
    several = bool(by_optimizer) or _has_several_losses(ends)
    doubt = Trend.SEVERAL if several else _doubt(run, ends)
    if doubt in (Trend.POLICY, Trend.REPLACED):
        guess, num_classes = math.nan, 0
    return TrainingCourse(
        _trend(known, begun, num_first, num, is_finite, guess, doubt),
        begun,
        ended,
        peak,
        guess,
        num_classes,
        moved,
        num_zero,
        num_parameters,
        by_optimizer,
    )


def _in_turn(run: Run, ends: AnyArray, last: AnyArray) -> tuple[LossCourse, ...]:
    """Return the losses of each optimizer where several take turns in the last steps; none where
    the steps are those of one, or of one after the other.
    """
    optimizers = run.row_reader.optimizers
    if len(optimizers) < 2:
        return ()
    turns = last["optimizer"][_has_loss(last)]
    if int((turns[1:] != turns[:-1]).sum()) < max(2, len(np.unique(turns))):
        return ()
    found: list[LossCourse] = []
    for index in np.unique(turns).tolist():
        own = ends[_has_loss(ends) & (ends["optimizer"] == index)]["loss"].astype(np.float64)
        num = max(1, min(len(own) // 5, _FIRST_LOSSES))
        each = next((each for each in optimizers if each.index == index), None)
        if each is not None:
            name = each.name or each.kind
            found.append(LossCourse(name, median(own[:num]), median(own[-num:])))
    return tuple(found)


def _has_loss(steps: AnyArray) -> BoolArray:
    """Return which steps are those of an optimizer on a loss that was recorded  # (n,)."""
    odd = int(StepFlag.NO_LOSS | StepFlag.BY_HAND)
    found: BoolArray = ((steps["flags"] & odd) == 0) & np.isfinite(steps["loss"])
    return found


def _trend(
    losses: FloatArray,
    begun: float,
    num_first: int,
    num: int,
    is_finite: bool,
    guess: float,
    doubt: Trend | None,
) -> Trend:
    if not is_finite:
        return Trend.NOT_FINITE
    if doubt is not None:
        return doubt
    if len(losses) < MIN_LOSSES:
        return Trend.TOO_FEW
    ended = median(losses[-num:])
    if ended < -UNBOUNDED * max(1.0, abs(begun)):
        return Trend.UNBOUNDED
    spread = median(np.abs(losses[-num:] - ended))
    # that of losses which began far lower is no larger than they are
    spread_at_first = spread * min(1.0, abs(begun / ended)) if ended else spread
    noise = _NOISE * math.hypot(spread_at_first / math.sqrt(num_first), spread / math.sqrt(num))
    least = MIN_DROP * max(abs(begun), abs(ended))
    if abs(ended - begun) <= max(least, noise):
        return Trend.FLAT if abs(ended - begun) <= least else Trend.NOISY
    if ended > begun:
        return Trend.ROSE
    return Trend.GUESS if ended >= guess * (1 - GUESS_DISTANCE) else Trend.FELL


def _has_several_losses(steps: AnyArray) -> bool:
    """Return whether a step's loss may be the sum of those of several optimizers that made steps:
    a backward before the optimizer was made has one of its own.
    """
    took_part = len(np.unique(steps["optimizer"])) > 1 or bool((steps["num_steps"] > 1).any())
    return took_part and bool((steps["num_backwards"] > 1).any())


def _doubt(run: Run, steps: AnyArray) -> Trend | None:
    """Return why the losses of these steps are no measure; `None` where nothing speaks against
    it.
    """
    stepped = set(np.unique(steps["optimizer"]).tolist())
    reasons = {
        fact.text("reason")
        for fact in run.facts
        if fact.kind == FactKind.LOSS_DOUBTFUL and fact.optimizer in stepped
    }
    if not reasons:
        return None
    return Trend.POLICY if LossDoubt.POLICY in reasons else Trend.REPLACED


def _guess(run: Run) -> tuple[float, int]:
    """Return the loss of a guess and the number of classes; NaN and 0 where the loss is none of a
    single classifier.
    """
    block = next(iter(run.row_reader.blocks(0, 1)))
    guess = chance_loss(block.parameters)
    if not len(block) or math.isnan(guess) or math.isnan(plain_loss(block, 0)):
        return math.nan, 0
    return guess, round(math.exp(guess))


def _peak(run: Run) -> float:
    view = run.levels.steps(0, run.num_rows, 1)
    high = view.high[:, STEP_SCALARS.index("loss")]
    finite = high[np.isfinite(high)]
    return float(finite.max()) if len(finite) else math.nan


def _weights(run: Run) -> tuple[float, int, int]:
    """Return the share of the weights that the last steps moved, and how many parameters got a zero
    gradient, of how many.

    A scalar moved where it had a gradient and the probe, which looks at a slice of each parameter
    in turn, saw it change.
    """
    moved: dict[str, tuple[float, int]] = {}
    num_zero = num_parameters = 0
    start = max(0, run.num_rows - _MOVED_ROWS)
    for block in run.row_reader.blocks(start, run.num_rows):
        moved |= _moved(block)
        measured = (block.state[-1] == State.ZERO) | (block.state[-1] == State.FINITE)
        num_zero = int((block.state[-1] == State.ZERO).sum())
        num_parameters = int(measured.sum())
    whole = sum(numel for _, numel in moved.values())
    share = sum(part * numel for part, numel in moved.values()) / whole if whole else math.nan
    return share, num_zero, num_parameters


def _moved(block: RowBatch) -> dict[str, tuple[float, int]]:
    ratios = block.values.get("update_ratio")
    if ratios is None or "unmoved" not in block.values:
        return {}
    if not np.isfinite(ratios).any():  # updates were left out here, also those without a gradient
        return {}
    found: dict[str, tuple[float, int]] = {}
    for column, each in enumerate(block.parameters):
        state, ratio = block.state[:, column], ratios[:, column]
        probed = (state == State.FINITE) & np.isfinite(ratio)
        rows = np.flatnonzero(probed | (state == State.ZERO))
        if len(rows) and each.numel:
            row = int(rows[-1])
            found[each.name] = (_share_moved(block, row, column), each.numel)
    return found


def _share_moved(block: RowBatch, row: int, column: int) -> float:
    """Return the share of a parameter's scalars that a step moved; momentum moves those without a
    gradient, which the probe sees in the size of the update alone.
    """
    ratio, still = (float(block.values[name][row, column]) for name in ("update_ratio", "unmoved"))
    if not ratio > 0:
        return 0.0
    if block.state[row, column] == State.ZERO:
        return 1.0
    with_gradient = 1 - float(block.values["zeros"][row, column]) / block.parameters[column].numel
    return with_gradient * (1 - still) if math.isfinite(still) else 0.0
