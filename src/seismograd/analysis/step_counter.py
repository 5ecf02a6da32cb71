"""Count the steps that a rule has read, and say how many were missing to judge at all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seismograd.analysis.block_rows import flagged
from seismograd.i18n import Message, say
from seismograd.schema import RowBatch, StepFlag


@dataclass(slots=True)
class StepCounter:
    """Counts steps, and among them those whose backwards and clips were compiled: a rule about
    these calls cannot judge them.
    """

    num: int = 0
    num_unheard: int = 0

    def add(self, block: RowBatch) -> None:
        """Count the steps of this block."""
        self.num += len(block)
        self.num_unheard += int(np.count_nonzero(flagged(block.steps, StepFlag.UNHEARD)))

    def shortfall(self, needed: int) -> Message | None:
        """Return what was missing to judge the calls of `needed` steps; `None` when nothing was."""
        if self.num - self.num_unheard < needed <= self.num:
            return say(
                "backward was compiled (steps: {count}), so neither backward nor clipping could be "
                "recorded",
                count=self.num_unheard,
            )
        if self.num >= needed:
            return None
        return say("needs {needed} {needed:step|steps}, has {has}", needed=needed, has=self.num)
