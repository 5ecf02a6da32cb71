"""Compare the gradients of two runs: the same to rounding, or from which step and parameter on not,
and by which factor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from seismograd.errors import SeismogradError
from seismograd.i18n import Message, say
from seismograd.record.reader import Run
from seismograd.schema import Parameter
from seismograd.views.parity.clues import clues_of
from seismograd.views.parity.first_difference import (
    FirstDifference,
    SketchedStep,
    common_steps,
    first_difference,
    sketched_steps,
)
from seismograd.views.parity.known_factors import KnownFactor, explained
from seismograd.views.parity.parameter_parity import (
    Difference,
    ParameterParity,
    compare_gradients,
)
from seismograd.views.parity.step_gradients import GradientSource, StepGradients
from seismograd.views.parity.tolerance import HALF, Tolerance, tolerance_of

MOST_SKETCHED_STEPS = 12
UNIFORM = 2e-3  # of the ratios of all parameters, relative


class Outcome(StrEnum):
    """What two runs have in common."""

    SAME = "same"
    DRIFT = "drift"  # rounding has grown
    FACTOR = "factor"  # all gradients differ by one factor
    DIFFERENT = "different"
    NOTHING = "nothing"  # no step or no parameter in common, or nothing measured


@dataclass(frozen=True, slots=True, eq=False)
class RunParity:
    """Two runs at the first step that differs, at the step that was asked for, or at the last one
    where all are the same.

    `parameters` are in the order of execution; `culprit` is the first in the order of the backward,
    from the loss on, that differs, and `num_behind` how many before it in that order do not.
    `factor` and `reasons`: by how much all gradients differ, or the culprit's, and what it may be.
    """

    outcome: Outcome
    found: FirstDifference
    num_steps: int  # that both have
    tolerance: Tolerance
    step: int = -1
    parameters: tuple[ParameterParity, ...] = ()
    culprit: ParameterParity | None = None
    num_behind: int = 0
    factor: float = math.nan
    reasons: tuple[KnownFactor, ...] = ()
    clues: tuple[Message, ...] = ()
    sketched: tuple[SketchedStep, ...] = ()

    @property
    def is_half(self) -> bool:
        """Return whether one of the runs computes in sixteen bits."""
        return self.tolerance == HALF


def compare_parity(first: Run, second: Run, step: int | None = None) -> RunParity:
    """Compare two runs at a step, or at the first that differs.

    Raises:
        SeismogradError: they do not both have this step.
    """
    steps = common_steps(first, second)
    if step is not None and step not in steps:
        raise _no_such_step(step, steps.tolist())
    sources = GradientSource(first), GradientSource(second)
    names = _ordered_names(first, second)
    tolerance = tolerance_of([*first.parameters, *second.parameters])
    if not len(steps) or not names:
        return RunParity(Outcome.NOTHING, FirstDifference(0, None, math.nan), len(steps), tolerance)
    if step is None:
        found = first_difference(sources, names, tolerance)
        step = int(steps[-1]) if found.step is None else found.step
        if found.step is None:
            sketched_step = _last_sketched(sources, step)
            step = sketched_step if sketched_step in steps else step
    else:
        found = FirstDifference(0, step, math.nan)
    at = _at(sources, step)
    parameters = _compared(names, at, tolerance)
    sketched = tuple(sketched_steps(sources, names, MOST_SKETCHED_STEPS))
    return _judged(found, len(steps), tolerance, step, parameters, at, sketched)


def _judged(
    found: FirstDifference,
    num_steps: int,
    tolerance: Tolerance,
    step: int,
    parameters: tuple[ParameterParity, ...],
    at: tuple[StepGradients, StepGradients],
    sketched: tuple[SketchedStep, ...],
) -> RunParity:
    differing = [each for each in reversed(parameters) if not each.agrees]
    if not differing:
        known = any(each.difference is Difference.SAME for each in parameters)
        outcome = Outcome.SAME if known else Outcome.NOTHING
        return RunParity(outcome, found, num_steps, tolerance, step, parameters, sketched=sketched)
    culprit = differing[0]
    behind = list(reversed(parameters)).index(culprit)
    factor = _common_factor(parameters)
    if math.isnan(factor) and culprit.difference is Difference.FACTOR:
        ratio, outcome = culprit.ratio, Outcome.DIFFERENT
    else:
        ratio, outcome = factor, Outcome.FACTOR
    if math.isnan(ratio):
        outcome = Outcome.DIFFERENT
    if found.is_gradual:
        outcome = Outcome.DRIFT
    reasons = explained(ratio, *at, near=tolerance.norm) if ratio > 0 else ()
    return RunParity(
        outcome,
        found,
        num_steps,
        tolerance,
        step,
        parameters,
        culprit,
        behind,
        ratio,
        reasons,
        tuple(clues_of(at, parameters, tolerance, factor)),
        sketched,
    )


def _common_factor(parameters: Sequence[ParameterParity]) -> float:
    """Return the factor by which all gradients differ that are known, NaN where there is none."""
    known = [each for each in parameters if each.difference is not Difference.UNKNOWN]
    ratios = [each.ratio for each in known if each.difference is Difference.FACTOR]
    others = [
        each
        for each in known
        if each.difference is not Difference.FACTOR and not math.isnan(each.ratio)
    ]
    if not ratios or others or max(ratios) > min(ratios) * (1 + UNIFORM):
        return math.nan
    return float(np.median(ratios))


def _compared(
    names: Sequence[str], at: tuple[StepGradients, StepGradients], tolerance: Tolerance
) -> tuple[ParameterParity, ...]:
    first, second = at
    whole = min(first.norm, second.norm)
    return tuple(
        compare_gradients(name, first.gradients[name], second.gradients[name], tolerance, whole)
        for name in names
        if name in first.gradients and name in second.gradients
    )


def _at(
    sources: tuple[GradientSource, GradientSource], step: int
) -> tuple[StepGradients, StepGradients]:
    first, second = (each.at_row(each.run.row_reader.row_of(step)) for each in sources)
    return first, second


def _last_sketched(sources: tuple[GradientSource, GradientSource], last: int) -> int:
    """Return the last step that both have sketched, up to this one, or this one."""
    steps = np.intersect1d(sources[0].sketched_steps, sources[1].sketched_steps)
    steps = steps[steps <= last]
    return int(steps[-1]) if len(steps) else last


def _ordered_names(first: Run, second: Run) -> list[str]:
    """Return the parameters that both have in the order of execution, those without one last."""
    others = {p.name: p for p in second.parameters}

    def depth(indexed: tuple[int, Parameter]) -> tuple[float, int]:
        index, p = indexed
        known = p.depth if p.depth is not None else others[p.name].depth
        return (math.inf if known is None else known), index

    shared = [(i, p) for i, p in enumerate(first.parameters) if p.name in others]
    return [p.name for _, p in sorted(shared, key=depth)]


def _no_such_step(step: int, steps: Sequence[int]) -> SeismogradError:
    if not len(steps):
        return SeismogradError(say("the two runs have no steps in common"))
    return SeismogradError(
        say("step {step} is not in both runs", step=step),
        say("both have steps {first} to {last}", first=steps[0], last=steps[-1]),
    )
