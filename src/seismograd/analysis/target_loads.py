"""Tell at which steps a target network had just been set to other weights."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from seismograd.analysis.training_stages import StageRows
from seismograd.schema import Fact, FactKind, IntArray

SHORTEST = 5  # steps from one to the next: what is loaded more often does not stand out
PART = 0.2  # of the steps from one to the next that are its consequence
MOST = 10  # and no more steps
LONG = 50  # steps from one to the next: what was usual before each says nothing of after it


@dataclass(slots=True)
class TargetLoads:
    """The steps at which one was, and the distance at which more have followed."""

    _steps: list[int] = field(default_factory=list[int])
    _every: list[int] = field(default_factory=list[int])  # -1: not known yet
    _begun: dict[int, int] = field(default_factory=dict[int, int])  # by optimizer

    def learn(self, fact: Fact) -> None:
        """Take in a fact that may tell of one."""
        if fact.kind == FactKind.TARGET_LOADED:
            self._steps.append(fact.iteration)
            self._every.append(int(fact.number("every")))

    def explains(self, step: int) -> bool:
        """Return whether the loss of a step is one of the first after such a change."""
        at, every = self._before(step)
        if every > 0:
            return every >= SHORTEST and step - at <= min(MOST, max(1, int(PART * every)))
        return at >= 0 and step - at <= MOST

    def parts(
        self, optimizer: int, stages: list[StageRows], iterations: IntArray
    ) -> list[StageRows]:
        """Return the rows of an optimizer's stages by the change that they come after, where such
        changes are far apart; `iterations` are those of all rows.
        """
        if not self._steps:
            return stages
        parts: list[StageRows] = []
        for stage in stages:
            if not len(stage.rows):
                continue
            begun = np.array([self._begins(int(each)) for each in iterations[stage.rows]])
            last = self._begun.get(optimizer, -1)
            self._begun[optimizer] = int(begun[-1])
            changes = np.diff(begun, prepend=last) != 0
            cuts = set(np.flatnonzero(changes & (begun >= 0)).tolist())
            for start, stop in pairwise(sorted({0, *cuts, len(begun)})):
                begins = start in cuts or (start == 0 and stage.begins)
                parts.append(StageRows(stage.rows[start:stop], begins))
        return parts

    def _begins(self, step: int) -> int:
        """Return at which step a change took place after which a new level begins; -1: none."""
        at, every = self._before(step)
        return at if every < 0 or every >= LONG else -1

    def _before(self, step: int) -> tuple[int, int]:
        """Return when the last change before a step, or at it, took place, which may be one that
        was not told, and how long after the one before; -1 where that is not known.
        """
        number = bisect_right(self._steps, step) - 1
        if number < 0:
            return -1, -1
        at, every = self._steps[number], self._every[number]
        return (at + (step - at) // every * every if every > 0 else at), every
