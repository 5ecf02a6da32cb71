"""The rules about the signal on real training programs."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tests.rules.programs import Program  # noqa: E402
from tests.rules.programs_signal import FAULTY, HEALTHY  # noqa: E402
from tests.rules.test_programs import judged  # noqa: E402


@pytest.mark.parametrize(("code", "program"), FAULTY.values(), ids=FAULTY)
def test_a_fault_of_the_signal_is_the_only_finding(
    code: str, program: Program, tmp_path: Path
) -> None:
    findings = judged(program, tmp_path / "run")
    assert [finding.code for finding in findings] == [code]
    assert findings[0].cause.render()
    assert findings[0].advice.render()
    assert "programs_signal.py:" in findings[0].where


@pytest.mark.parametrize("program", HEALTHY.values(), ids=HEALTHY)
def test_nothing_is_found_in_a_healthy_signal(program: Program, tmp_path: Path) -> None:
    assert judged(program, tmp_path / "run") == ()
