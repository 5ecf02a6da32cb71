"""Determine for how many calls a learning rate scheduler is made, from its attributes: no code of
the script runs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import FunctionType, MethodType
from typing import Any, cast

from torch.optim import lr_scheduler

# names that functions for LambdaLR use for the length of the training
LENGTHS = re.compile(
    r"(num_)?(train(ing)?|total|max|decay|lr_decay)_?(train(ing)?_?)?(steps?|iters?|iterations|"
    r"epochs?|updates)|t_total|t_max|n_epochs|num_epochs|num_steps|num_iters|epochs|steps|total"
)


@dataclass(frozen=True, slots=True)
class Plan:
    """`length` in calls, NaN where it is not known; `periodic`: the rate returns after that without
    a requested restart.
    """

    length: float = math.nan
    periodic: bool = False


def plan_of(scheduler: object) -> Plan:
    """Return what a scheduler is made for."""
    known = vars(scheduler)
    if isinstance(scheduler, lr_scheduler.OneCycleLR):
        return Plan(_number(known.get("total_steps")))
    if isinstance(scheduler, lr_scheduler.CosineAnnealingLR):
        return Plan(_number(known.get("T_max")), periodic=True)
    if isinstance(scheduler, lr_scheduler.LinearLR | lr_scheduler.PolynomialLR):
        return Plan(_number(known.get("total_iters")))
    if isinstance(scheduler, lr_scheduler.MultiStepLR):
        return Plan(_number(max(known.get("milestones") or [math.nan])))
    if isinstance(scheduler, lr_scheduler.SequentialLR):
        parts = cast("Sequence[object]", known.get("_schedulers") or ())
        edges = cast("Sequence[object]", known.get("_milestones") or ())
        last = plan_of(parts[-1]) if parts else Plan()
        before = _number(edges[-1]) if edges else 0.0
        return Plan(before + last.length, last.periodic)
    if isinstance(scheduler, lr_scheduler.ChainedScheduler):
        plans = [plan_of(each) for each in known.get("_schedulers") or ()]
        return Plan(max((p.length for p in plans if p.length == p.length), default=math.nan))
    if isinstance(scheduler, lr_scheduler.LambdaLR):
        return Plan(
            max((_length_in(each) for each in known.get("lr_lambdas") or ()), default=math.nan)
        )
    return Plan()


def _length_in(function: object) -> float:
    """Return the number that a function for LambdaLR keeps under a name for the length."""
    names: dict[str, Any] = {}
    if isinstance(function, partial):
        names |= cast("Mapping[str, Any]", function.keywords)
        function = function.func
    elif isinstance(function, MethodType):
        names |= _attributes(function.__self__)
    elif not isinstance(function, FunctionType):
        names |= _attributes(function)
    if isinstance(function, FunctionType) and function.__closure__:
        for name, cell in zip(function.__code__.co_freevars, function.__closure__, strict=False):
            names[name] = _content(cell)
    found = [
        _number(value)
        for name, value in names.items()
        if LENGTHS.fullmatch(name.lower().strip("_"))
    ]
    found = [each for each in found if each > 1]
    return found[0] if len(set(found)) == 1 else math.nan


def _attributes(thing: object) -> dict[str, Any]:
    try:
        return vars(thing)
    except TypeError:  # it has none of its own
        return {}


def _content(cell: Any) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # it is empty
        return None


def _number(value: object) -> float:
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if known else math.nan  # pyright: ignore[reportArgumentType]
