"""What optimizers remembered of the gradients of some parameters, as last sampled up to a step."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from seismograd.record.reader import Run
from seismograd.schema import SAMPLE_FIELDS, SampleKind

MAX_BATCHES = 256  # that are looked through, from the last on


@dataclass(frozen=True, slots=True)
class OptimizerState:
    """The numbers of one parameter at the step where they were last measured, by their names in
    `schema.samples`; only those that were.
    """

    parameter: str
    step: int
    numbers: Mapping[str, float]

    def number(self, name: str) -> float:
        """Return a number; NaN where it was not measured."""
        return self.numbers.get(name, math.nan)


def optimizer_states(run: Run, names: Collection[str], step: int) -> tuple[OptimizerState, ...]:
    """Return the latest states up to a step, in the order of the names; none for parameters of
    which none was measured.
    """
    series = run.sampled(SampleKind.OPTIMIZER_STATE)
    wanted, found = set(names), dict[str, OptimizerState]()
    fields = SAMPLE_FIELDS[SampleKind.OPTIMIZER_STATE].names
    for position in np.flatnonzero(series.steps <= step).tolist()[::-1][:MAX_BATCHES]:
        if len(found) == len(wanted):
            break
        batch = series[position]
        for row, subject in enumerate(batch.subjects):
            if subject.name not in wanted or subject.name in found:
                continue
            numbers = {
                field: float(batch.values[row, column])
                for column, field in enumerate(fields)
                if batch.measured[row, column]
            }
            found[subject.name] = OptimizerState(subject.name, batch.step, numbers)
    return tuple(found[name] for name in names if name in found)
