"""Compute the gradient norm that the optimizer consumed: from the ready gradient and the recorded
clips, or from a second reading where those do not determine it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seismograd.schema import FloatArray, IntArray
from seismograd.tensors.device_scalars import Scalar
from seismograd.tensors.isolation import in_own_context

EPSILON = 1e-6  # that torch.nn.utils.clip_grad_norm_ adds to the norm


def clip_coefficient(norm: float, limit: float) -> float:
    """Return the factor torch multiplies gradients by: min(1, limit / (norm + 1e-6)); NaN for a NaN
    norm.
    """
    coefficient = float(limit) / (float(norm) + EPSILON)
    return 1.0 if coefficient > 1 else coefficient


@dataclass(frozen=True, slots=True)
class AppliedClip:
    """A recorded clip: the columns it covered, the total norm it found, and its limit, by norm or
    by value.
    """

    columns: IntArray
    norm: Scalar
    limit: Scalar
    by_norm: bool

    def coefficient(self) -> float:
        """Return the factor it multiplied the gradients by, if it was by norm."""
        return clip_coefficient(self.norm.read(), self.limit.read())


@in_own_context
def after_clips(
    grad_norm: FloatArray, columns: IntArray, clips: tuple[AppliedClip, ...]
) -> FloatArray:
    """Return the norms of the applied gradients  # (n,) from those of the ready ones in `columns`
    # (n,), if all clips were by norm.
    """
    applied = grad_norm.copy()
    with np.errstate(invalid="ignore", over="ignore"):
        for clip in clips:
            applied[np.isin(columns, clip.columns)] *= clip.coefficient()
    return applied
