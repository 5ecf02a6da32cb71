"""SG803 on programs that draw samples."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from seismograd.record.reader import open_run  # noqa: E402
from seismograd.schema import FactKind  # noqa: E402
from tests.rules.programs import Program  # noqa: E402
from tests.rules.sample_faults import FAULTY, HEALTHY  # noqa: E402
from tests.rules.test_programs import judged  # noqa: E402


@pytest.mark.parametrize("program", FAULTY.values(), ids=FAULTY)
def test_a_sample_that_cuts_off_its_distribution_is_found(program: Program, tmp_path: Path) -> None:
    (finding,) = judged(program, tmp_path / "run")
    assert (finding.code, finding.severity) == ("SG803", "error")
    assert "sample_faults.py:" in finding.where
    assert finding.parameters
    assert all("encoder" in name or name[0].isdigit() for name in finding.parameters)


@pytest.mark.parametrize("program", HEALTHY.values(), ids=HEALTHY)
def test_samples_that_are_right_are_left_alone(program: Program, tmp_path: Path) -> None:
    judged(program, tmp_path / "run")
    assert [f for f in open_run(tmp_path / "run").facts if f.kind == FactKind.SAMPLE_CUT] == []


def test_the_statement_is_shown_as_it_should_read(tmp_path: Path) -> None:
    (finding,) = judged(FAULTY["sac with a transform"], tmp_path / "run")
    assert finding.excerpt == "action = policy.rsample()"


def test_sample_is_as_it_was_when_watching_ends(tmp_path: Path) -> None:
    before = torch.distributions.Normal.sample
    judged(FAULTY["vae"], tmp_path / "run")
    assert torch.distributions.Normal.sample is before
