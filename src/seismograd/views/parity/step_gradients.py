"""What a run has recorded of the gradients of one step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from seismograd.record.reader import Run
from seismograd.schema import (
    AnyArray,
    EventKind,
    FloatArray,
    IntArray,
    Parameter,
    SampleBatch,
    SampleKind,
    State,
)


@dataclass(frozen=True, slots=True, eq=False)
class RecordedGradient:
    """One parameter's gradient: its norm, its largest scalar, the sum of all, and its sketch, where
    there is one  # (SKETCH_WIDTH,).
    """

    parameter: Parameter
    state: State
    norm: float
    largest: float
    total: float
    sketch: FloatArray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class StepGradients:
    """The gradients of one step by the names of their parameters, and what is known of the step.

    `weight_norms` are those before the step, where they were sampled. `term_weight`: what each
    term counts in its first loss, 1 in a sum and 1/n in a mean; NaN where that is not known.
    """

    step: int
    entry: AnyArray  # 0-d, STEP_DTYPE
    ranks: AnyArray  # RANK_DTYPE, empty for a single process
    gradients: Mapping[str, RecordedGradient]
    weight_norms: Mapping[str, float]
    term_weight: float

    @property
    def num_ranks(self) -> int:
        """Return how many processes have trained together."""
        return max(1, len(self.ranks))

    @property
    def num_data_ranks(self) -> int:
        """Return how many processes have trained together on data of their own: one where all
        have the same loss, as under tensor parallelism.
        """
        losses = self.ranks["loss"]
        return 1 if len(np.unique(losses[np.isfinite(losses)])) < 2 else self.num_ranks

    @property
    def norm(self) -> float:
        """Return the norm of all gradients that are finite."""
        norms = [g.norm for g in self.gradients.values() if g.state == State.FINITE]
        return float(np.linalg.norm(norms)) if norms else 0.0


class GradientSource:
    """Reads the gradients of single steps of a run."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._sketches = run.sampled(SampleKind.GRADIENT_SKETCH)

    @cached_property
    def sketched_steps(self) -> IntArray:
        """Return the steps that have sketches, in order."""
        return np.unique(self._sketches.steps)

    def at_row(self, row: int) -> StepGradients:
        """Return the gradients of a row."""
        (block,) = self.run.row_reader.blocks(row, row + 1)
        step = int(block.steps["iteration"][0])
        sketches = self.sketches(step)
        norms, largest, totals = (
            block.values[name][0].tolist() for name in ("grad_norm", "grad_max", "grad_sum")
        )
        gradients = {
            parameter.name: RecordedGradient(
                parameter,
                State(int(block.state[0, column])),
                norms[column],
                largest[column],
                totals[column],
                sketches.get(parameter.name),
            )
            for column, parameter in enumerate(block.parameters)
        }
        weights = (
            dict(zip(gradients, block.samples["weight_norm"][0].tolist(), strict=True))
            if len(block.sample_rows)
            else {}
        )
        of_terms = block.events["weight"][block.events["kind"] == EventKind.BACKWARD]
        return StepGradients(
            step,
            block.steps[0],
            block.ranks,
            gradients,
            weights,
            float(of_terms[0]) if len(of_terms) else float("nan"),
        )

    def sketches(self, step: int) -> dict[str, FloatArray]:
        """Return the sketches of a step by the names of parameters; those with a sum that was not
        measured are left out.
        """
        found: dict[str, FloatArray] = {}
        for batch in self._sketches.between(step, step):
            found.update(_by_name(batch))
        return found


def _by_name(batch: SampleBatch) -> dict[str, FloatArray]:
    return {
        subject.name: values
        for subject, values, measured in zip(
            batch.subjects, batch.values, batch.measured, strict=True
        )
        if measured.all()
    }
