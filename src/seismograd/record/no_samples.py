"""The samples of a block without any."""

from __future__ import annotations

import numpy as np

from seismograd.schema import (
    STATISTICS,
    AnyArray,
)


def no_samples(num_parameters: int) -> dict[str, AnyArray]:
    """Return every sampled statistic, zero times  # (0, P) or (0, P, W)."""
    return {
        each.name: np.empty(
            (0, num_parameters) if each.width == 1 else (0, num_parameters, each.width), each.dtype
        )
        for each in STATISTICS
        if each.sampled
    }
