"""A block's samples where there are none."""

from __future__ import annotations
from collections import deque
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
import numpy as np
from seismograd.record import layout
from seismograd.schema import (
    EVENT_DTYPE,
    PAIR_DTYPE,
    RANK_DTYPE,
    STATISTICS,
    STEP_DTYPE,
    AnyArray,
    Block,
    Fact,
    Note,
    Optimizer,
    Row,
    Rows,
    Site,
)


def no_samples(num_parameters: int) -> dict[str, AnyArray]:
    """The samples of a block without any: every sampled statistic, zero times  # (0, P) or (0, P, W)."""
    return {
        each.name: np.empty((0, num_parameters) if each.width == 1 else (0, num_parameters, each.width), each.dtype)
        for each in STATISTICS
        if each.sampled
    }
