"""Tell when another training begins: a new optimizer takes the place of the one before."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from seismograd.schema import Fact, FactKind, IntArray

MIN_MADE = 4  # optimizers, before more are expected
SHORTEST, LONGEST = 2, 32  # steps of each of them, where more are expected


@dataclass(frozen=True, slots=True)
class StageRows:
    """Rows of one optimizer that belong to one stage."""

    rows: IntArray
    begins: bool  # with the first of them another stage begins


@dataclass(slots=True)
class TrainingStages:
    """The iterations at which new optimizers began in the place of others, by optimizer.

    Of many only a few are told of. Where all of them have made the same few steps, as the inner
    ones of Reptile, one for each task, the others are known as well.
    """

    # each with its life: how many steps those before it have made, 0 where not all made the same
    _begun: dict[int, list[tuple[int, int]]] = field(
        default_factory=dict[int, list[tuple[int, int]]]
    )
    _life: dict[int, int] = field(default_factory=dict[int, int])
    _num_steps: dict[int, int] = field(default_factory=dict[int, int])  # of the last one

    def learn(self, fact: Fact) -> None:
        """Take in a fact that may tell of one."""
        if fact.kind == FactKind.OPTIMIZER_REMADE:
            life = fact.number("life")
            is_same = fact.number("made") >= MIN_MADE and life.is_integer()
            self._begun.setdefault(fact.optimizer, []).append(
                (fact.iteration, int(life) if is_same and SHORTEST <= life <= LONGEST else 0)
            )

    def begun_by(self, optimizer: int, iteration: int) -> int:
        """Return when the stage of this iteration began; -1: with the training."""
        begun = self._begun.get(optimizer)
        return max((at for at, _ in begun if at <= iteration), default=-1) if begun else -1

    def parts(self, optimizer: int, rows: IntArray, iterations: IntArray) -> list[StageRows]:
        """Return the rows by stage; `iterations` are theirs. Each stage begins once."""
        if not len(rows):
            return [StageRows(rows, begins=False)]
        begun = self._begun.get(optimizer, [])
        reached = [(at, life) for at, life in begun if at <= iterations[-1]]
        if reached:
            self._begun[optimizer] = begun[len(reached) :]
        edges = [0, *self._cuts(optimizer, reached, iterations), len(rows)]
        return [
            StageRows(rows[start:stop], begins=number > 0)
            for number, (start, stop) in enumerate(pairwise(edges))
            if stop > start
        ]

    def _cuts(self, optimizer: int, told: list[tuple[int, int]], iterations: IntArray) -> list[int]:
        """Return at which rows another one began: what was told of, and what may be expected in
        between.
        """
        life, last = self._life.get(optimizer, 0), -self._num_steps.get(optimizer, 0)
        cuts: list[int] = []
        for at, life_before in told:
            cut = int(np.searchsorted(iterations, at))
            cuts += [*_every(life, last, cut), cut]
            last, life = cut, life_before
        expected = _every(life, last, len(iterations))
        if expected:
            last = expected[-1]
        self._life[optimizer], self._num_steps[optimizer] = life, len(iterations) - last
        return [*cuts, *expected]


def _every(life: int, last: int, stop: int) -> list[int]:
    """Return the rows after the last begin, and before another one, at which one is expected."""
    return [at for at in range(last + life, stop, life) if at >= 0] if life else []
