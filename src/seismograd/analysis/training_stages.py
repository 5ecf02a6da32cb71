"""Tell when another training begins: a new optimizer takes the place of the one before."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from seismograd.schema import Fact, FactKind, IntArray


@dataclass(frozen=True, slots=True)
class StageRows:
    """Rows of one optimizer that belong to one stage."""

    rows: IntArray
    begins: bool  # with the first of them another stage begins


@dataclass(slots=True)
class TrainingStages:
    """The iterations at which new optimizers began in the place of others, by optimizer."""

    _begun: dict[int, list[int]] = field(default_factory=dict[int, list[int]])

    def learn(self, fact: Fact) -> None:
        """Take in a fact that may tell of one."""
        if fact.kind == FactKind.OPTIMIZER_REMADE:
            self._begun.setdefault(fact.optimizer, []).append(fact.iteration)

    def begun_by(self, optimizer: int, iteration: int) -> int:
        """Return when the stage of this iteration began; -1: with the training."""
        return max((at for at in self._begun.get(optimizer, ()) if at <= iteration), default=-1)

    def parts(self, optimizer: int, rows: IntArray, iterations: IntArray) -> list[StageRows]:
        """Return the rows by stage; `iterations` are theirs. Each stage begins once."""
        begun = self._begun.get(optimizer)
        if not begun or not len(rows):
            return [StageRows(rows, begins=False)]
        reached = [at for at in begun if at <= iterations[-1]]
        self._begun[optimizer] = begun[len(reached) :]
        cuts = np.searchsorted(iterations, reached).tolist()
        edges = [0, *cuts, len(rows)]
        return [
            StageRows(rows[start:stop], begins=number > 0)
            for number, (start, stop) in enumerate(pairwise(edges))
            if stop > start
        ]
