"""Steps that find no gradient while backwards reach parameters that no optimizer holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from seismograd.analysis.block_rows import as_list, integers, iteration_at
from seismograd.schema import EventKind, RowBatch, State, StepFlag

BY_HAND = StepFlag.BY_HAND | StepFlag.COPIED


@dataclass(slots=True)
class StepsOnNothing:
    """How many there were, and the iterations of the first and the last of them; none counts once
    the script has changed weights by hand.
    """

    num: int = 0
    first: int = -1
    last: int = -1
    by_hand: bool = False

    def read(self, block: RowBatch) -> Iterator[int]:
        """Yield the rows of such steps, each when it is counted."""
        flags = integers(block.steps, "flags")
        odd = np.flatnonzero(flags & int(StepFlag.NO_BACKWARD | BY_HAND))
        if self.by_hand or not len(odd):
            return
        backward = block.events[block.events["kind"] == EventKind.BACKWARD]
        elsewhere = set(backward["iteration"].tolist()) - set(
            backward["iteration"][backward["touched"] != 0].tolist()
        )
        for row in as_list(odd):
            if flags[row] & BY_HAND:
                self.by_hand = True
                return
            iteration = iteration_at(block, row)
            if iteration in elsewhere and not (block.state[row] >= State.ZERO).any():
                self.num += 1
                self.first = iteration if self.first < 0 else self.first
                self.last = iteration
                yield row
