"""SG803 on programs that draw samples."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from seismograd.record.reader import open_run  # noqa: E402
from seismograd.schema import FactKind  # noqa: E402
from tests.rules.programs import Program  # noqa: E402
from tests.rules.sample_faults import FAULTY, HEALTHY, frozen, returns_to_go, rewarded_as_a_batch  # noqa: E402
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


def test_the_log_prob_of_a_sample_alone_is_named(tmp_path: Path) -> None:
    (finding,) = judged(FAULTY["frozen critic"], tmp_path / "run")
    assert "the loss has only the log_prob of the sample" in finding.cause.render()
    facts = [f for f in open_run(tmp_path / "run").facts if f.kind == FactKind.SAMPLE_CUT]
    assert [fact.number("times") for fact in facts] == [1, 2, 3, 4, 5]
    assert finding.first_step == facts[-1].iteration


@pytest.mark.parametrize("program", [rewarded_as_a_batch, frozen(returns_to_go)])
def test_a_factor_that_is_not_the_same_each_time_is_a_reward(
    program: Program, tmp_path: Path
) -> None:
    assert judged(program, tmp_path / "run") == ()


def test_sample_is_as_it_was_when_watching_ends(tmp_path: Path) -> None:
    before = torch.distributions.Normal.sample
    judged(FAULTY["vae"], tmp_path / "run")
    assert torch.distributions.Normal.sample is before
