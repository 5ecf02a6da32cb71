"""Compare two runs: the outcome of each, what was found in one and not in the other, and where
their gradients differ.

Shapes: P parameters that both have, C compared steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from seismograd.analysis.medians import column_medians
from seismograd.record.pyramid.cells import FACTOR
from seismograd.record.pyramid.step_scalars import STEP_SCALARS
from seismograd.record.reader import Run
from seismograd.schema import Finding, FloatArray, State
from seismograd.views.parameter_pairs import pair_up

_LOOKED_AT = 256  # steps at equal distances, whatever the length of the runs


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """One of the two runs: its last step and its findings. `loss` is NaN where it was NaN, or not
    measured.
    """

    run: Run
    loss: float
    lr: float
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class NormDifference:
    """One parameter of both runs: the median of its norm in each over the compared steps, and in
    how many of them it was not finite.
    """

    name: str
    second_name: str  # another one where the runs are compared by order and shape
    first: float
    second: float
    first_nonfinite: int
    second_nonfinite: int

    @property
    def names(self) -> str:
        """Return the name, or both where they differ."""
        same = self.name == self.second_name
        return self.name if same else f"{self.name} ↔ {self.second_name}"

    @property
    def ratio(self) -> float:
        """Return first / second; NaN where either is zero or was never finite."""
        return self.first / self.second if self.first > 0 and self.second > 0 else math.nan


@dataclass(frozen=True, slots=True)
class RunComparison:
    """Both sides, the parameters that both have (the most different first), and the names of those
    that have no partner.
    """

    first: ComparedRun
    second: ComparedRun
    num_rows: int  # that both have
    num_looked_at: int
    differences: tuple[NormDifference, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    by_order: bool  # which parameters belong together, because few names are common


def compare_runs(first: Run, second: Run) -> RunComparison:
    """Compare both runs over the rows that both have."""
    pairs = pair_up(first.parameters, second.parameters)
    both = pairs.columns
    num_rows = min(first.num_rows, second.num_rows)
    # Where raw values were not kept there are summaries: then medians of both are those of these.
    num_columns = min(_LOOKED_AT, num_rows // FACTOR) if first.kept or second.kept else _LOOKED_AT
    one, one_bad, looked = _norms(first, [column for column, _ in both], num_rows, num_columns)
    two, two_bad, _ = _norms(second, [column for _, column in both], num_rows, num_columns)
    found = [
        NormDifference(
            first.parameters[column].name,
            second.parameters[there].name,
            float(one[index]),
            float(two[index]),
            int(one_bad[index]),
            int(two_bad[index]),
        )
        for index, (column, there) in enumerate(both)
    ]
    sides = ((first, {one for one, _ in both}), (second, {two for _, two in both}))
    only_first, only_second = (
        tuple(each.name for column, each in enumerate(run.parameters) if column not in known)
        for run, known in sides
    )
    return RunComparison(
        _side(first),
        _side(second),
        num_rows,
        looked,
        tuple(sorted(found, key=_how_different, reverse=True)),
        only_first,
        only_second,
        pairs.by_order,
    )


def _how_different(each: NormDifference) -> tuple[bool, float]:
    bad = (each.first_nonfinite > 0) != (each.second_nonfinite > 0) or (each.first > 0) != (
        each.second > 0
    )
    return bad, 0.0 if math.isnan(each.ratio) else abs(math.log(each.ratio))


def _norms(
    run: Run, columns: list[int], num_rows: int, num_columns: int
) -> tuple[FloatArray, FloatArray, int]:
    """Return medians (P,), counts of non-finite steps (P,), and how many steps the median is of."""
    view = run.levels.parameters("grad_norm", 0, num_rows, num_columns, columns)
    if not len(view) or not columns:
        return np.full(len(columns), math.nan), np.zeros(len(columns)), 0
    return (
        column_medians(view.last),
        view.counts[:, State.NONFINITE].sum(axis=0).astype(np.float64),
        len(view),
    )


def _side(run: Run) -> ComparedRun:
    if not run.num_rows:
        return ComparedRun(run, math.nan, math.nan, run.findings)
    view = run.levels.steps(run.num_rows - 1, run.num_rows, 1)
    last = dict(zip(STEP_SCALARS, view.last[-1].tolist(), strict=True))
    return ComparedRun(run, last["loss"], last["lr"], run.findings)
