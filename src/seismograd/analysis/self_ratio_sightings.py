"""Collect the facts about a ratio of a policy with itself, until other terms move the policy."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from seismograd.analysis.block_rows import BoolArray, columns_where, integers
from seismograd.schema import Fact, RowBatch, State


@dataclass(slots=True)
class SelfRatioSightings:
    """The facts about one optimizer; `is_found`: the finding is made."""

    facts: list[Fact] = field(default_factory=list[Fact])
    is_found: bool = False

    def enough(self, block: RowBatch, moved: BoolArray, min_times: int) -> Fact | None:
        """Return the fact that it was so often enough, once the policy has a gradient that is not
        zero in any of the rows `moved`; where it has none, the zeros are what is told.
        """
        fact = next((each for each in self.facts if each.number("times") >= min_times), None)
        if fact is None:
            return None
        columns = columns_where(block.parameters, lambda each: each.name in fact.parameters)
        rows = np.flatnonzero(moved & (integers(block.steps, "iteration") >= fact.iteration))
        is_moved = bool((block.state[np.ix_(rows, columns)] == State.FINITE).any())
        return fact if is_moved else None
