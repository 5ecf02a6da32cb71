"""What is known of an update before it is made: whether its gradients are finite, and their
norm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from seismograd.capture.loop.optimizer_window import OptimizerWindow


@dataclass(frozen=True, slots=True)
class AppliedUpdate:
    """The gradients that a step is about to use, after clips and all else: how many of their
    scalars are not finite, and their L2 norm, NaN where it was not measured.
    """

    num_nonfinite: int
    norm: float


def applied_update(window: OptimizerWindow) -> AppliedUpdate | None:
    """Return what is known of the update of the running step; waits for numbers that are still on
    a device. `None` where its gradients were not read.
    """
    step, ready = window.step, window.ready
    if step is None or ready is None:
        return None
    applied = window.applied or step.applied
    for reading in (ready, applied):
        if reading is not None:
            reading.settle()
    # Gradients of parameters that nobody updates come after the optimizer's own.
    num = len(ready.columns) if window.plan is None else len(window.plan.columns)
    own = replace(step, reading=ready, applied=applied, clips=tuple(window.clips))
    used = ready if applied is None or len(applied.columns) != len(ready.columns) else applied
    counts = used.values["nonfinite"][:num]
    nonfinite = int(np.nansum(counts))
    norms = own.applied_norm()[:num]
    there = norms if used.present is None else norms[np.asarray(used.present[:num], bool)]
    return AppliedUpdate(nonfinite, math.hypot(*there.tolist()) if len(there) else math.nan)
