"""A snapshot of a run for `top`, read from the end of its record whatever its length.

Shapes: P parameters, C columns of a sparkline.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from seismograd.analysis.medians import column_medians
from seismograd.diagnosis.causes import in_reading_order
from seismograd.record.reader import Run
from seismograd.schema import (
    AnyArray,
    Finding,
    FloatArray,
    Parameter,
    RunState,
    State,
    StateArray,
    StepFlag,
)
from seismograd.views.module_signals import ModuleSignals, read_nearest
from seismograd.views.page_api.step_numbers import row_values

_RECENT = 256  # steps that a sparkline spans
_COLUMNS = 32


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One parameter: its state and numbers at the last step, its recent course (C,), by which
    factor the norm is above its recent median (NaN: not known), and how bad it looks (`trouble`,
    0: not at all).
    """

    parameter: Parameter
    state: State
    norm: float
    maximum: float
    zeros: float
    nonfinite: float
    update_ratio: float
    course: FloatArray
    seen: FloatArray
    of_median: float
    trouble: float


@dataclass(frozen=True, slots=True)
class RunSnapshot:
    """The run when it was read: the last step's scalars, every parameter, the findings."""

    name: str
    script: str
    state: RunState
    num_rows: int
    step: int
    time_s: float
    loss: float | None
    lr: float
    norm: float
    findings: tuple[Finding, ...]
    losses: FloatArray
    losses_seen: FloatArray  # true where it was measured
    norms: FloatArray
    layers: tuple[LayerRow, ...]
    signals: ModuleSignals | None = None  # of the newest sample


def read_snapshot(run: Run, going_on: bool) -> RunSnapshot:
    """Read the run as it is now."""
    state = RunState.of(run.ended, going_on)
    none = np.empty(0)
    if run.num_rows == 0:
        return RunSnapshot(
            run.path.name,
            run.info.script,
            state,
            0,
            -1,
            0,
            None,
            math.nan,
            math.nan,
            in_reading_order(run.findings),
            none,
            none,
            none,
            (),
        )
    row = run.num_rows - 1
    step = run.row_reader.steps(row, row + 1)[0]
    recent = run.row_reader.steps(max(0, row + 1 - _RECENT), row + 1)
    return RunSnapshot(
        name=run.path.name,
        script=run.info.script,
        state=state,
        num_rows=run.num_rows,
        step=int(step["iteration"]),
        time_s=float(step["time_s"]),
        loss=None if int(step["flags"]) & StepFlag.NO_LOSS else float(step["loss"]),
        lr=float(step["lr"]),
        norm=float(step["grad_norm"]),
        findings=in_reading_order(run.findings),
        losses=np.asarray(recent["loss"], np.float64),
        losses_seen=np.asarray(recent["flags"] & StepFlag.NO_LOSS == 0, np.float64),
        norms=np.asarray(recent["grad_norm"], np.float64),
        layers=_layers(run, row),
        signals=read_nearest(run, int(step["iteration"])),
    )


def _layers(run: Run, row: int) -> tuple[LayerRow, ...]:
    states, values = row_values(run, row)
    view = run.levels.parameters("grad_norm", max(0, row + 1 - _RECENT), row + 1, _COLUMNS)
    bad = view.counts[:, State.NONFINITE] > 0
    course = np.where(bad, np.nan, view.high)  # (C, P)
    seen = (view.counts[:, State.ZERO :].sum(axis=1) > 0).astype(np.float64)
    found = {name for finding in run.findings for name in finding.parameters}
    with np.errstate(divide="ignore", invalid="ignore"):
        of_median = values["grad_norm"] / column_medians(course)
    trouble = _trouble(states, of_median, bad)
    return tuple(
        LayerRow(
            parameter=parameter,
            state=State(int(states[column])),
            norm=float(values["grad_norm"][column]),
            maximum=float(values["grad_max"][column]),
            zeros=float(values["zeros"][column]),
            nonfinite=float(values["nonfinite"][column]),
            update_ratio=float(values["update_ratio"][column]),
            course=course[:, column],
            seen=seen[:, column],
            of_median=float(of_median[column]),
            trouble=float(trouble[column]) + (100.0 if parameter.name in found else 0.0),
        )
        for column, parameter in enumerate(run.parameters)
    )


def _trouble(states: StateArray, of_median: FloatArray, bad: AnyArray) -> FloatArray:
    """Return the trouble of each: non-finite now before non-finite lately, before zero or absent,
    before decades away from its own recent median  # (P,).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        away = np.abs(np.log10(of_median))
    trouble = np.where(np.isfinite(away), np.minimum(away, 50), 0)
    trouble[states == State.ABSENT] += 200
    trouble[states == State.ZERO] += 300
    trouble += 1e3 * bad.any(axis=0)
    trouble[states == State.NONFINITE] += 1e4
    return trouble
