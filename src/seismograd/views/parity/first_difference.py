"""Find the first step at which the gradients of two runs differ by more than rounding.

Shapes: n steps that both runs have in a stretch, P parameters that both have.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from seismograd.record.reader import Run
from seismograd.schema import BoolArray, FloatArray, IntArray, State, StateArray
from seismograd.views.parity.parameter_parity import cosine_of, distance_of
from seismograd.views.parity.step_gradients import GradientSource
from seismograd.views.parity.tolerance import Tolerance

STRETCH = 512  # rows that are read at once
GRADUAL = 20.0  # rounding that training amplifies grows by less from one step to the next


@dataclass(frozen=True, slots=True)
class FirstDifference:
    """`num_same`: steps before it that are the same; `step`: the first that is not, `None` where
    all are. `largest`: relative difference of a norm in the steps that are the same. `is_gradual`:
    it is little more than in the step before, as where training amplifies rounding.
    """

    num_same: int
    step: int | None
    largest: float
    is_gradual: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class _Stretch:
    """What both runs have of the same steps  # (n, P) each."""

    steps: IntArray  # (n,)
    states: tuple[StateArray, StateArray]
    norms: tuple[FloatArray, FloatArray]
    largest: tuple[FloatArray, FloatArray]
    totals: tuple[FloatArray, FloatArray]


def common_steps(first: Run, second: Run) -> IntArray:
    """Return the steps of which both runs have raw values, in order."""
    one, other = (_steps_with_values(each) for each in (first, second))
    return np.intersect1d(one, other)


def _steps_with_values(run: Run) -> IntArray:
    steps = run.row_reader.steps(0, run.num_rows)["iteration"].astype(np.int64)
    if not run.kept:
        return steps
    there = np.zeros(len(steps), np.bool_)
    for low, high in run.kept:
        there |= (steps >= low) & (steps <= high)
    return steps[there]


def first_difference(
    sources: tuple[GradientSource, GradientSource], names: Sequence[str], tolerance: Tolerance
) -> FirstDifference:
    """Return where the gradients of these parameters, in both runs, begin to differ."""
    numels = _numels(sources, names)
    num_same, most, before = 0, 0.0, 0.0
    for stretch in _stretches(sources, names):
        same, apart = _compared(stretch, tolerance, numels)
        for index, step in enumerate(stretch.steps.tolist()):
            if not same[index].all() or not _sketches_agree(sources, step, names, tolerance):
                now = float(apart[index].max(initial=0.0))
                gradual = num_same > 0 and bool(now <= GRADUAL * before)
                return FirstDifference(num_same, step, most, gradual)
            before = float(apart[index].max(initial=0.0))
            most, num_same = max(most, before), num_same + 1
    return FirstDifference(num_same, None, most)


def _numels(sources: tuple[GradientSource, GradientSource], names: Sequence[str]) -> FloatArray:
    numels = {p.name: p.numel for p in sources[1].run.parameters}
    return np.array([numels[name] for name in names], np.float64)


def _stretches(
    sources: tuple[GradientSource, GradientSource], names: Sequence[str]
) -> Iterator[_Stretch]:
    runs = sources[0].run, sources[1].run
    steps = common_steps(*runs)
    for begin in range(0, len(steps), STRETCH):
        chosen = steps[begin : begin + STRETCH]
        read = [_read(run, names, chosen) for run in runs]
        pairs = [tuple(side[name] for side in read) for name in read[0]]
        yield _Stretch(chosen, *pairs)  # pyright: ignore[reportArgumentType]


def _read(run: Run, names: Sequence[str], steps: IntArray) -> dict[str, FloatArray | StateArray]:
    """Return the states, norms, largest scalars and sums of these steps  # (n, P) each."""
    first, last = (run.row_reader.row_of(int(step)) for step in (steps[0], steps[-1]))
    found: dict[str, FloatArray | StateArray] = {
        "state": np.full((len(steps), len(names)), State.NOT_MEASURED, np.uint8),
        **{
            name: np.full((len(steps), len(names)), np.nan)
            for name in ("grad_norm", "grad_max", "grad_sum")
        },
    }
    position = {name: column for column, name in enumerate(names)}
    for block in run.row_reader.blocks(first, last + 1):
        own = [(c, position[p.name]) for c, p in enumerate(block.parameters) if p.name in position]
        rows = np.isin(block.steps["iteration"], steps)
        at = np.searchsorted(steps, block.steps["iteration"][rows])
        columns, targets = ([pair[side] for pair in own] for side in (0, 1))
        for name, values in found.items():
            source = block.state if name == "state" else block.values[name]
            values[at[:, None], targets] = np.asarray(source)[rows][:, columns]
    return found


def _compared(
    stretch: _Stretch, tolerance: Tolerance, numels: FloatArray
) -> tuple[BoolArray, FloatArray]:
    """Return which gradients are the same, by what every step has, and how far apart their norms
    are, relatively, but for those that are rounding alone  # (n, P) each.
    """
    finite = [states == State.FINITE for states in stretch.states]
    norms = [np.where(f, norm, 0.0) for f, norm in zip(finite, stretch.norms, strict=True)]
    floor = tolerance.floor * np.minimum(*(np.linalg.norm(n, axis=1) for n in norms))[:, None]
    size = np.maximum(*norms)
    unknown = (
        (stretch.states[0] == State.NOT_MEASURED)
        | (stretch.states[1] == State.NOT_MEASURED)
        | ((stretch.states[0] == State.NONFINITE) & (stretch.states[1] == State.NONFINITE))
    )
    nonfinite = (stretch.states[0] == State.NONFINITE) | (stretch.states[1] == State.NONFINITE)
    allowed = tolerance.distance * size + floor
    with np.errstate(invalid="ignore"):
        close = (
            (np.abs(norms[0] - norms[1]) <= tolerance.norm * size + floor)
            & (np.abs(stretch.largest[0] - stretch.largest[1]) <= allowed)
            & (np.abs(stretch.totals[0] - stretch.totals[1]) <= allowed * np.sqrt(numels))
        )
        tiny = ~nonfinite & (size <= floor)
        same = unknown | tiny | (finite[0] & finite[1] & close)
        apart = np.abs(norms[0] - norms[1]) / np.where(size > 0, size, 1.0)
    return same, np.where(unknown | tiny | nonfinite, 0.0, apart)


def _sketches_agree(
    sources: tuple[GradientSource, GradientSource],
    step: int,
    names: Sequence[str],
    tolerance: Tolerance,
) -> bool:
    """Return whether the sketches of a step, where both runs have some, are the same."""
    if not all(step in source.sketched_steps for source in sources):
        return True
    first, second = (source.sketches(step) for source in sources)
    floor = tolerance.floor * float(np.linalg.norm([np.linalg.norm(s) for s in first.values()]))
    for name in names:
        if name in first and name in second and np.isfinite(first[name]).all():
            norm = float(np.linalg.norm(second[name]))
            if norm <= floor:
                continue
            if not distance_of(first[name], second[name]) <= tolerance.distance + floor / norm:
                return False
    return True


@dataclass(frozen=True, slots=True)
class SketchedStep:
    """A step that both runs have sketched: the cosine and the relative distance between their whole
    gradients, and in each run the cosine with its gradient of the sketched step before.
    """

    step: int
    cosine: float
    distance: float
    before: tuple[float, float]


def sketched_steps(
    sources: tuple[GradientSource, GradientSource], names: Sequence[str], most: int
) -> list[SketchedStep]:
    """Return the steps that both have sketched, at most so many at equal distances."""
    steps = np.intersect1d(sources[0].sketched_steps, sources[1].sketched_steps)
    if len(steps) > most:
        steps = steps[np.linspace(0, len(steps) - 1, most).round().astype(int)]
    found: list[SketchedStep] = []
    earlier: tuple[FloatArray, FloatArray] | None = None
    for step in steps.tolist():
        first, second = (source.sketches(step) for source in sources)
        both = [name for name in names if name in first and name in second]
        if not both:
            continue
        # One after the other, they are sketches of the whole gradients.
        whole = (
            np.concatenate([first[name] for name in both]),
            np.concatenate([second[name] for name in both]),
        )
        fits = earlier is not None and len(earlier[0]) == len(whole[0])
        before = (
            (cosine_of(whole[0], earlier[0]), cosine_of(whole[1], earlier[1]))
            if earlier is not None and fits
            else (float("nan"), float("nan"))
        )
        found.append(SketchedStep(step, cosine_of(*whole), distance_of(*whole), before))
        earlier = whole
    return found
