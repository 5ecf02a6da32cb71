"""The scalars of a step as columns of a pyramid: their values, and the state of each."""

from __future__ import annotations

import numpy as np

from seismograd.schema import AnyArray, FloatArray, State, StateArray, StepFlag

STEP_SCALARS = ("loss", "lr", "grad_norm", "applied_norm", "clip_norm", "clip_limit", "scale")
STEPS = "steps"  # the name of the one statistic of that pyramid
STATISTICS = {STEPS: "<f8"}


def step_values(steps: AnyArray) -> FloatArray:
    """Return the scalars of each row  # (R, len(STEP_SCALARS))."""
    return np.stack([np.asarray(steps[name], np.float64) for name in STEP_SCALARS], axis=1)


def step_states(steps: AnyArray, states: StateArray) -> StateArray:
    """Return the state of each scalar; `states` are those of the gradients of the same rows
    # (R, P) -> (R, len(STEP_SCALARS)).

    A NaN means "not measured", except for a loss without NO_LOSS and for the norm of gradients one
    of which is not finite.
    """
    return states_of_values(step_values(steps), steps, states)


def states_of_values(values: FloatArray, steps: AnyArray, states: StateArray) -> StateArray:
    """Return the same, given the scalars from `step_values`."""
    found = np.where(values == 0, State.ZERO, State.FINITE).astype(np.uint8)
    found[~np.isfinite(values)] = State.NONFINITE
    unknown = np.isnan(values)
    unknown[:, STEP_SCALARS.index("loss")] &= (steps["flags"] & int(StepFlag.NO_LOSS)) != 0
    unknown[:, STEP_SCALARS.index("grad_norm")] &= ~(states == State.NONFINITE).any(axis=1)
    found[unknown] = State.NOT_MEASURED
    return found
