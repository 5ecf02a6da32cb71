"""Clips by norm as rules read them: one for each row in which the gradients were clipped once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from seismograd.analysis.block_rows import as_list, integers, numbers
from seismograd.analysis.shared_block import SharedBlock
from seismograd.i18n import Message, say
from seismograd.schema import EventFlag, EventKind, Evidence

NOT_COMPARED = int(EventFlag.USED | EventFlag.EMPTY | EventFlag.AGAIN | EventFlag.OTHER_NORM)
BY_NORM = 1  # `detail` of a clip


@dataclass(frozen=True, slots=True)
class NormClip:
    """A clip by the L2 norm of unscaled gradients, or several by the same norm: the row, its
    iteration, the optimizers as bits, the norm, the limit, and the factor.
    """

    row: int
    iteration: int
    touched: int
    norm: float
    limit: float
    factor: float

    def touches(self, optimizer: int | None) -> bool:
        """Return whether it clips the gradients of an optimizer."""
        return optimizer is not None and bool(self.touched >> optimizer & 1)

    def evidence(self) -> Evidence:
        """Return the norm and the limit, which support a finding."""
        return Evidence("clip_norm", "", self.iteration, self.norm, self.limit)


def clips_shortfall(needed: int, has: int) -> Message | None:
    """Return the message about what was missing to judge `needed` clips; `None` when there were as
    many.
    """
    if has >= needed:
        return None
    return say(
        "needs {needed} {needed:step|steps} with a clip by norm, has {has}", needed=needed, has=has
    )


def norm_clips(block: SharedBlock) -> Iterator[NormClip]:
    """Yield the clips of the rows that have updated weights, in order."""
    factors = numbers(block.steps, "clip_coefficient")
    if not np.isfinite(factors).any():
        return
    norm, limit = numbers(block.steps, "clip_norm"), numbers(block.steps, "clip_limit")
    clips = block.events[integers(block.events, "kind") == EventKind.CLIP]
    iterations = integers(clips, "iteration")
    for row in as_list(np.flatnonzero(block.updates & np.isfinite(factors))):
        iteration = int(block.steps["iteration"][row])
        events = clips[iterations == iteration]
        value = numbers(events, "value")
        if len(events) and bool(
            (integers(events, "detail") == BY_NORM).all()
            and not (integers(events, "flags") & NOT_COMPARED).any()
            and (events["scale"] == 1).all()
            and np.ptp(value) <= 1e-6 * abs(float(value[0]))
        ):
            touched = int(np.bitwise_or.reduce(events["touched"]))
            yield NormClip(
                row, iteration, touched, float(norm[row]), float(limit[row]), float(factors[row])
            )
