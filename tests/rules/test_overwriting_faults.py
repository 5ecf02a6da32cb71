"""SG407, and what a loaded state does to rates (SG404) and schedules (SG113), on real programs."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from seismograd.record.reader import open_run  # noqa: E402
from seismograd.schema import FactKind  # noqa: E402
from tests.rules.overwriting_faults import FAULTY, HEALTHY, caught_up  # noqa: E402
from tests.rules.programs import Program  # noqa: E402
from tests.rules.test_programs import judged  # noqa: E402


@pytest.mark.parametrize(("code", "program"), FAULTY.values(), ids=FAULTY)
def test_what_is_overwritten_is_the_first_finding(
    code: str, program: Program, tmp_path: Path
) -> None:
    findings = judged(program, tmp_path / "run")
    assert [finding.code for finding in findings] == [code]
    assert "overwriting_faults.py:" in findings[0].where
    assert not [note for note in open_run(tmp_path / "run").notes if note.kind == "failure"]


@pytest.mark.parametrize("program", HEALTHY.values(), ids=HEALTHY)
def test_what_looks_like_it_is_healthy(program: Program, tmp_path: Path) -> None:
    assert judged(program, tmp_path / "run") == ()
    assert not [note for note in open_run(tmp_path / "run").notes if note.kind == "failure"]


def test_a_schedule_that_was_brought_to_its_place_is_not_told(tmp_path: Path) -> None:
    judged(caught_up, tmp_path / "run")
    kinds = {fact.kind for fact in open_run(tmp_path / "run").facts}
    assert FactKind.SCHEDULE in kinds
    assert FactKind.SCHEDULE_NOT_LOADED not in kinds
