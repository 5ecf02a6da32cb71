"""The fingerprint of the first steps of a run: what a change of the gradients would change.

Shapes: K steps, P parameters, H bins of exponents, S sums of a sketch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from seismograd.errors import SeismogradError
from seismograd.i18n import say
from seismograd.record.reader import Run
from seismograd.schema import FloatArray, Parameter, SampleKind, State, StateArray

NUM_SUMS = 8  # of a sketch: enough to see another direction, and a file that people can read


@dataclass(frozen=True, slots=True, eq=False)
class Fingerprint:
    """State, norm and number of zeros of each gradient at each step, and, of sampled steps by their
    number, its exponents and some sums of its sketch. NaN is what was not measured.
    """

    torch_version: str
    parameters: tuple[Parameter, ...]
    states: StateArray  # (K, P)
    norms: FloatArray  # (K, P)
    zeros: FloatArray  # (K, P)
    exponents: Mapping[int, FloatArray] = field(default_factory=dict[int, FloatArray])  # (P, H)
    sketches: Mapping[int, FloatArray] = field(default_factory=dict[int, FloatArray])  # (P, S)

    @property
    def num_steps(self) -> int:
        """Return K."""
        return len(self.states)

    @property
    def numels(self) -> FloatArray:
        """Return the number of scalars of each parameter  # (P,)."""
        return np.array([max(1, each.numel) for each in self.parameters], float)


def fingerprint_of(run: Run, num_steps: int) -> Fingerprint:
    """Return the fingerprint of the first steps of a run.

    Raises:
        SeismogradError: it has fewer.
    """
    if run.num_rows < num_steps:
        raise SeismogradError(
            say(
                "the training made {has} {num:step|steps}, fewer than the {needed} to compare",
                has=run.num_rows,
                num=run.num_rows,
                needed=num_steps,
            )
        )
    position = {each.name: column for column, each in enumerate(run.parameters)}
    rows, exponents = run.samples("exponents")
    sketches: dict[int, FloatArray] = {}
    for batch in run.sampled(SampleKind.GRADIENT_SKETCH).between(0, num_steps - 1):
        values = sketches.setdefault(batch.step, np.full((len(position), NUM_SUMS), np.nan))
        for subject, sums, measured in zip(
            batch.subjects, batch.values, batch.measured, strict=True
        ):
            if subject.name in position and measured.all():
                values[position[subject.name]] = sums[:NUM_SUMS]
    return Fingerprint(
        run.info.torch_version,
        run.parameters,
        run.states[:num_steps],
        run.series("grad_norm")[:num_steps],
        run.series("zeros")[:num_steps],
        {row: exponents[at] for at, row in enumerate(rows.tolist()) if row < num_steps},
        sketches,
    )


def known(states: StateArray) -> StateArray:
    """Return which gradients were looked at."""
    return states != State.NOT_MEASURED
