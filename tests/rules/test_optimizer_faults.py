"""SG404, SG204 and SG405 on real training programs."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from seismograd.record.reader import open_run  # noqa: E402
from tests.rules.optimizer_faults import FAULTY, HEALTHY, one_for_each_batch  # noqa: E402
from tests.rules.programs import Program  # noqa: E402
from tests.rules.test_programs import judged  # noqa: E402


@pytest.mark.parametrize(("code", "program"), FAULTY.values(), ids=FAULTY)
def test_one_too_many_is_the_first_finding(code: str, program: Program, tmp_path: Path) -> None:
    findings = judged(program, tmp_path / "run")
    assert [finding.code for finding in findings] == [code]
    assert "optimizer_faults.py:" in findings[0].where
    assert findings[0].cause.render()
    assert len(open_run(tmp_path / "run").facts) < 30


@pytest.mark.parametrize("program", HEALTHY.values(), ids=HEALTHY)
def test_what_looks_like_it_is_healthy(program: Program, tmp_path: Path) -> None:
    assert judged(program, tmp_path / "run") == ()
    assert not [note for note in open_run(tmp_path / "run").notes if note.kind == "failure"]


def test_one_in_place_of_another_is_the_same_optimizer(tmp_path: Path) -> None:
    judged(one_for_each_batch, tmp_path / "run")
    run = open_run(tmp_path / "run")
    steps = [step for block in run.blocks() for step in block.steps]
    assert {int(step["optimizer"]) for step in steps} == {0}
    assert [int(step["step"]) for step in steps] == list(range(40))
