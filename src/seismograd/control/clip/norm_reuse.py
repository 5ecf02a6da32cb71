"""Reuse norms that a session has just measured, so that the gradients are not read twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from seismograd.capture.hub import HUB
from seismograd.measure.backend_selection import has_kernel
from seismograd.schema import FloatArray

DTYPES = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})


def norms_just_read(parameters: Sequence[Tensor]) -> FloatArray | None:
    """Return the norms of these parameters' gradients, read for the clip that has just begun
    # (n,); `None` unless all were.

    Only norms of the kernel: it sums each tensor in the same order whatever else is measured, so
    that a training continues with the same bits whether watched or not.
    """
    if not HUB.listening or not has_kernel() or not all(map(_is_plain, parameters)):
        return None
    norms = HUB.norms_just_read(parameters)
    return None if norms is None else np.array(norms, np.float64)


def _is_plain(parameter: Tensor) -> bool:
    gradient = parameter.grad
    return (
        type(gradient) is Tensor
        and gradient.dtype in DTYPES
        and gradient.device.type == "cpu"
        and gradient.layout is torch.strided
        and gradient.is_contiguous()
    )
