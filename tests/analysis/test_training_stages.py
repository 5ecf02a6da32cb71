"""When another training begins: what was told of, and what may be expected."""

from __future__ import annotations

import numpy as np
import pytest

from seismograd.analysis.training_stages import TrainingStages
from seismograd.schema import Fact, FactKind


def remade(iteration: int, made: int, life: float) -> Fact:
    return Fact(
        FactKind.OPTIMIZER_REMADE,
        iteration=iteration,
        optimizer=0,
        values={"made": made, "life": life},
    )


def begun(facts: list[Fact], num: int, size: int, early: bool = False) -> list[int]:
    """The steps at which a stage begins, read in blocks of a size."""
    stages, found = TrainingStages(), list[int]()
    waiting = list(facts)
    for start in range(0, num, size):
        rows = np.arange(min(size, num - start))
        while waiting and (early or waiting[0].iteration < start + len(rows)):
            stages.learn(waiting.pop(0))
        parts = stages.parts(0, rows, rows + start)
        assert np.array_equal(np.concatenate([part.rows for part in parts]), rows)
        found += [start + int(part.rows[0]) for part in parts if part.begins]
    return found


@pytest.mark.parametrize("size", [1, 3, 8, 64])
@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ([], []),
        ([remade(7, 2, 7), remade(20, 3, 10)], [7, 20]),
        # as long as all have made the same few steps
        ([remade(8 * n, n + 1, 8) for n in (1, 2, 3, 7)], [8, 16, 24, 32, 40, 48, 56]),
        ([remade(5, 4, 5), remade(17, 8, 4.5)], [5, 10, 15, 17]),
        ([remade(40, 4, 40)], [40]),
        ([remade(4, 4, 1)], [4]),
    ],
)
def test_stages_begin_where_optimizers_were_made(
    facts: list[Fact], expected: list[int], size: int, early: bool
) -> None:
    assert begun(facts, 60, size, early) == expected
