"""SG102 names the exponential that a loss owes its size to."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tests.rules.exponential_faults import FAULTY, HEALTHY, Program  # noqa: E402
from tests.rules.test_programs import judged  # noqa: E402


@pytest.mark.parametrize("program", FAULTY.values(), ids=FAULTY)
def test_the_exponential_is_the_cause(program: Program, tmp_path: Path) -> None:
    (finding,) = judged(program, tmp_path / "run")
    assert (finding.code, finding.first_step) == ("SG102", 0)
    assert "exp of what log_var.weight computes gives" in finding.cause.render()
    assert "clamp" in finding.advice.render()
    assert "exponential_faults.py:" in finding.where


@pytest.mark.parametrize("program", HEALTHY.values(), ids=HEALTHY)
def test_exponentials_of_a_healthy_size_are_no_cause(program: Program, tmp_path: Path) -> None:
    assert judged(program, tmp_path / "run") == ()
