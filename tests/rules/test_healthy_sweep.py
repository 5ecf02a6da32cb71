"""No rule finds anything in programs that train well."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tools.healthy_table import PAGE, page  # noqa: E402

from tests.rules.healthy import PROGRAMS, Healthy  # noqa: E402
from tests.rules.test_programs import judged  # noqa: E402


@pytest.mark.parametrize(
    "healthy",
    PROGRAMS,
    ids=lambda each: f"{each.network}, {each.optimizer}, {each.dtype}, {each.more}",
)
def test_nothing_is_found_in_a_program_that_trains(healthy: Healthy, tmp_path: Path) -> None:
    assert [
        (each.code, each.cause.render()) for each in judged(healthy.program, tmp_path / "run")
    ] == []


def test_the_page_lists_the_programs() -> None:
    assert len(PROGRAMS) >= 30
    text = PAGE.read_text(encoding="utf8")
    assert page(text) == text, "python tools/healthy_table.py"
