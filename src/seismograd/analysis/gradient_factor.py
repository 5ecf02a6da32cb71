"""The factor by which all gradients of a step were multiplied between backward and step."""

from __future__ import annotations

import math

import numpy as np

from seismograd.analysis.medians import median
from seismograd.analysis.micro_batches import are_alike
from seismograd.analysis.step_window import StepWindow
from seismograd.schema import State, StepFlag


def gradient_factor(window: StepWindow, tolerance: float) -> float | None:
    """Return the factor, without that of a recorded clip and of a loss scale; `None`: nothing was
    multiplied, or not all by the same.
    """
    if not window.flags & StepFlag.CHANGED:
        return None
    finite = window.states == State.FINITE
    ready, applied = (window.statistic(name)[finite] for name in ("grad_norm", "applied_norm"))
    coefficient = window.number("clip_coefficient")
    factors = applied / ready / (coefficient if coefficient > 0 else 1.0)
    if not len(factors) or not np.isfinite(factors).all() or factors.min() <= 0:
        return None
    factor = median(factors)
    is_one = math.isclose(factor, 1.0, rel_tol=2 * tolerance)
    if is_one or not are_alike(factors.tolist(), tolerance):
        return None
    scale = window.step.scale
    unscaled = scale != 1 and math.isclose(factor * scale, 1.0, rel_tol=tolerance)
    return None if unscaled else factor
