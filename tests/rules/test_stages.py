"""SG103 and SG106 on programs of two stages."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tests.rules.programs import Program  # noqa: E402
from tests.rules.stage_faults import FAULTY, FIRST, HEALTHY  # noqa: E402
from tests.rules.test_programs import judged  # noqa: E402


@pytest.mark.parametrize(("code", "program"), FAULTY.values(), ids=FAULTY)
def test_a_fault_of_the_second_stage_is_the_only_finding(
    code: str, program: Program, tmp_path: Path
) -> None:
    findings = judged(program, tmp_path / "run")
    assert [finding.code for finding in findings] == [code]
    assert findings[0].first_step >= FIRST


@pytest.mark.parametrize("program", HEALTHY.values(), ids=HEALTHY)
def test_the_beginning_of_another_stage_is_no_spike(program: Program, tmp_path: Path) -> None:
    assert judged(program, tmp_path / "run") == ()
