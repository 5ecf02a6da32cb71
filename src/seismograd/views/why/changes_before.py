"""What changed in the steps shortly before one: learning rate, batch, loss scale, clip, norm."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from seismograd.analysis.medians import median
from seismograd.record.reader import Run
from seismograd.schema import FactKind, FloatArray, StepFlag

WINDOW = 20  # steps
MIN_FACTOR = 1.1  # of a setting
MIN_JUMP = 3.0  # of a number that always varies, against its median
SETTINGS = ("lr", "scale", "num_backwards", "epoch")
VARYING = ("clip_coefficient", "grad_norm", "loss")
OF_GROUPS = ("weight_decay", "momentum", "eps", "beta1", "beta2")


@dataclass(frozen=True, slots=True)
class Change:
    """A number that was `before` and is `now`, since this step; `group` of an optimizer, -1: of the
    step itself.
    """

    name: str
    step: int
    before: float
    now: float
    group: int = -1


def changes_before(run: Run, row: int) -> tuple[Change, ...]:
    """Return what changed in a row of the record or in the steps before it."""
    rows = run.steps[max(row - WINDOW, 0) : row + 1]
    # those of another optimizer have a learning rate of their own
    rows = rows[rows["optimizer"] == rows["optimizer"][-1]]
    steps = rows["iteration"]
    found: list[Change] = []
    for name in SETTINGS:
        found += _of_setting(name, rows[name].astype(np.float64), steps)
    for name in VARYING:
        values = rows[name].astype(np.float64)
        if name == "loss":
            values[(rows["flags"] & int(StepFlag.NO_LOSS)) != 0] = np.nan
            is_unknown = (rows["flags"][-1] & int(StepFlag.NO_LOSS)) != 0
        else:
            is_unknown = name == "clip_coefficient" and math.isnan(values[-1])
        if not is_unknown:
            found += _of_varying(name, values, steps)
    return (*found, *_of_groups(run, int(steps[0]), int(steps[-1])))


def _of_setting(name: str, values: FloatArray, steps: FloatArray) -> Iterator[Change]:
    """Yield the last change of a number that stays as it is, or moves along a schedule."""
    before, now = float(values[0]), float(values[-1])
    moved = np.flatnonzero(values[1:] != values[:-1]) + 1
    known = moved[~np.isnan(values[moved]) & ~np.isnan(values[moved - 1])]
    if not len(known) or not _differ(before, now):
        return
    sizes = [abs(_log(float(values[at])) - _log(float(values[at - 1]))) for at in known]
    at = int(known[int(np.argmax(sizes))])
    if len(known) == 1 or name == "epoch":
        yield Change(name, int(steps[at]), float(values[at - 1]), float(values[at]))
    else:
        yield Change(name, int(steps[known[0]]), before, now)


def _of_varying(name: str, values: FloatArray, steps: FloatArray) -> Iterator[Change]:
    """Yield that the last number lies far from those before it, or is not finite; a loss that fell
    is no reason for anything.
    """
    usual = values[:-1][np.isfinite(values[:-1])]
    if not len(usual):
        return
    before, now = median(usual), float(values[-1])
    if name == "loss" and now < before:
        return
    if not math.isfinite(now) or abs(_log(now) - _log(before)) > math.log(MIN_JUMP):
        yield Change(name, int(steps[-1]), before, now)


def _of_groups(run: Run, first: int, last: int) -> Iterator[Change]:
    """Yield the settings of parameter groups that changed in these steps."""
    known: dict[tuple[int, float], dict[str, float]] = {}
    for fact in run.facts:
        if fact.kind != FactKind.GROUP_SETTINGS:
            continue
        place = fact.optimizer, fact.number("group")
        now = {name: fact.number(name) for name in OF_GROUPS}
        for name, value in now.items():
            was = known.get(place, now)[name]
            if first <= fact.iteration <= last and _differ(was, value):
                yield Change(name, fact.iteration, was, value, int(fact.number("group")))
        known[place] = now


def _differ(before: float, now: float) -> bool:
    if math.isnan(before) or math.isnan(now):
        return False
    return before != now and abs(_log(before) - _log(now)) > math.log(MIN_FACTOR)


def _log(value: float) -> float:
    return math.log(max(abs(value), 1e-300)) if math.isfinite(value) else 1e3
