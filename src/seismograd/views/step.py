"""The gradients of one recorded step: what `show` renders as a table, in the plain format or as
JSON.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seismograd.errors import SeismogradError
from seismograd.i18n import say
from seismograd.record.reader import Run
from seismograd.schema import Parameter, RowBatch, State, StepFlag
from seismograd.views.histogram import GradientHistogram, nearest_histogram
from seismograd.views.optimizer_states import OptimizerState, optimizer_states
from seismograd.views.run_condition import why_apart, why_nothing

NO_STEP = "no_step"
"""The kind of the note in which a session says why there is no step."""

_MEASURED = (State.ZERO, State.FINITE, State.NONFINITE)


@dataclass(frozen=True, slots=True)
class GradientNumbers:
    """One parameter's gradient at one step. The numbers mean nothing unless it was measured."""

    parameter: Parameter
    state: State
    norm: float
    maximum: float
    zeros: int
    nonfinite: int

    @property
    def measured(self) -> bool:
        """Return whether there was a gradient, and it was measured."""
        return self.state in _MEASURED

    @property
    def rms(self) -> float:
        """Return the root mean square of the scalars: the norm divided by the square root of their
        number.
        """
        return self.norm / math.sqrt(self.parameter.numel) if self.parameter.numel else 0.0


@dataclass(frozen=True, slots=True)
class RecordedStep:
    """One recorded step: its numbers and the gradients of the requested parameters.

    `grad_norm` is over all parameters, requested or not. `loss` is `None` when it was not measured;
    `epoch` is `None` when the run recorded none; the clip is `None` when there was none. `states`:
    what optimizers remembered of the parameters, where it was asked for and measured.
    """

    run: Run
    iteration: int
    first: int
    last: int
    num_recorded: int
    epoch: int | None
    loss: float | None
    lr: float
    grad_norm: float
    scale: float
    clip: tuple[float, float] | None
    applied_norm: float
    flags: int
    num_backwards: int
    num_steps: int  # of optimizers, and of what the script does in their place
    gradients: tuple[GradientNumbers, ...]
    histogram: GradientHistogram | None
    states: tuple[OptimizerState, ...] = ()


def find_row(run: Run, step: int | None) -> int:
    """Return the row of the record that holds a step; the last one when `step` is `None`.

    Raises:
        SeismogradError: nothing was recorded, or not that step.
    """
    iterations = run.steps["iteration"]
    if len(iterations) == 0:
        apart = why_apart(run)
        if apart is not None:
            raise SeismogradError(apart)
        if not run.ended:
            raise SeismogradError(why_nothing(run))
        why = next((note.message for note in run.notes if note.kind == NO_STEP), None)
        raise SeismogradError(
            why or say("no optimizer step was recorded in {run}", run=str(run.path)),
            say(
                "a step is recorded at each optimizer.step() after a backward(); did the script "
                "get that far?"
            ),
        )
    if step is None:
        return len(iterations) - 1
    rows = np.flatnonzero(iterations == step)
    if len(rows):
        return int(rows[-1])
    first, last = int(iterations[0]), int(iterations[-1])
    if first <= step <= last:
        nearest = int(iterations[np.argmin(np.abs(iterations - step))])
        raise SeismogradError(
            say("step {step} was not recorded", step=step),
            say("the nearest recorded step is {nearest}", nearest=nearest),
        )
    raise SeismogradError(
        say("there is no step {step}", step=step),
        say("the run contains steps {first} to {last}", first=first, last=last),
    )


def read_step(
    run: Run, row: int, columns: Sequence[int], with_states: bool = False
) -> RecordedStep:
    """Return one row of the record; `with_states`: with what the optimizers remembered then."""
    block = next(run.row_reader.blocks(row, row + 1))
    numbers = block.steps[0]
    there = {each.name: position for position, each in enumerate(block.parameters)}
    parameters = [run.parameters[column] for column in columns]
    gradients = tuple(_gradient(each, block, there.get(each.name)) for each in parameters)
    loss = float(numbers["loss"])
    epoch = int(numbers["epoch"])
    clip = (float(numbers["clip_norm"]), float(numbers["clip_limit"]))
    return RecordedStep(
        run=run,
        iteration=int(numbers["iteration"]),
        first=int(run.steps["iteration"][0]),
        last=int(run.steps["iteration"][-1]),
        num_recorded=len(run.steps),
        epoch=epoch if epoch >= 0 else None,
        loss=None if int(numbers["flags"]) & StepFlag.NO_LOSS else loss,
        lr=float(numbers["lr"]),
        grad_norm=float(numbers["grad_norm"]),
        scale=float(numbers["scale"]),
        clip=None if math.isnan(clip[1]) else clip,
        applied_norm=float(numbers["applied_norm"]),
        flags=int(numbers["flags"]),
        num_backwards=int(numbers["num_backwards"]),
        num_steps=int(numbers["num_steps"]),
        gradients=gradients,
        histogram=nearest_histogram(run, row, parameters[0].name) if len(parameters) == 1 else None,
        states=optimizer_states(run, [p.name for p in parameters], int(numbers["iteration"]))
        if with_states
        else (),
    )


def _gradient(parameter: Parameter, block: RowBatch, position: int | None) -> GradientNumbers:
    if position is None:
        return GradientNumbers(parameter, State.NOT_MEASURED, math.nan, math.nan, 0, 0)
    return GradientNumbers(
        parameter=block.parameters[position],
        state=State(int(block.state[0, position])),
        norm=float(block.values["grad_norm"][0, position]),
        maximum=float(block.values["grad_max"][0, position]),
        zeros=int(block.values["zeros"][0, position]),
        nonfinite=int(block.values["nonfinite"][0, position]),
    )
