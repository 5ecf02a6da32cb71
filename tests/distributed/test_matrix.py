"""Whoever distributes a model, in whatever numbers, what is recorded is what one process with all
the data has: the matrix of docs/ranks.md.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tools.ranks_matrix import PAGE, listed, rows_of

from tests.distributed.matrix_cells import CELLS, KINDS
from tests.distributed.matrix_check import assert_near, measure

pytestmark = [pytest.mark.ranks, pytest.mark.slow]

QUICK = (
    "ddp-2-scaled-4-clip",
    "by_hand-2-bfloat16-4",
    "zero_1-2-scaled-4-clip",
    "fsdp1-2-float32-4-clip",
    "fsdp1-2-mixed-4-clip",
    "fsdp1-2-scaled-1",
    "fsdp2-2-mixed-4-clip",
    "tp-2-mixed-4-clip",
    "pp-2-bfloat16-4-clip",
    "ep-2-scaled-4-clip",
)
REST = [(kind, ranks) for kind, each in KINDS.items() for ranks in each.ranks]


def test_one_of_each_kind_is_recorded_as_one_process_would_measure(tmp_path: Path) -> None:
    for name, distance in measure(QUICK, 2, tmp_path).items():
        assert_near(name, distance)


@pytest.mark.extended
@pytest.mark.parametrize(("kind", "ranks"), REST)
def test_the_whole_matrix(kind: str, ranks: int, tmp_path: Path) -> None:
    names = [cell.name for cell in CELLS.values() if (cell.kind, cell.ranks) == (kind, ranks)]
    for name, distance in measure(names, ranks, tmp_path).items():
        assert_near(name, distance)


def test_the_page_has_a_row_for_each_of_the_matrix() -> None:
    found = rows_of(PAGE.read_text(encoding="utf8"))
    assert [row[:2] for row in found] == [(KINDS[kind].name, str(ranks)) for kind, ranks in REST]
    for (kind, ranks), row in zip(REST, found, strict=True):
        assert [cell != "" for cell in row[2:]] == listed(kind, ranks)
