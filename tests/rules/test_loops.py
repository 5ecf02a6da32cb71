"""The rules about loops on real training programs."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from seismograd.diagnosis.whole_record import diagnose  # noqa: E402
from seismograd.record.reader import open_run  # noqa: E402
from tests.rules.loops_at_fault import FAULTY, loop  # noqa: E402
from tests.rules.loops_in_health import HEALTHY  # noqa: E402
from tests.rules.programs import Program, batch  # noqa: E402
from tests.rules.test_programs import judged  # noqa: E402


@pytest.mark.parametrize(("code", "program"), FAULTY.values(), ids=FAULTY)
def test_a_fault_is_the_first_finding_and_hardly_another_is_made(
    code: str, program: Program, tmp_path: Path
) -> None:
    findings = judged(program, tmp_path / "run")
    assert [finding.code for finding in findings][:1] == [code]
    assert len(findings) <= 2
    assert findings[0].cause.render()
    assert findings[0].advice.render()


def test_a_division_by_the_number_of_micro_batches_follows_from_clearing_each(
    tmp_path: Path,
) -> None:
    """As many micro-batches as samples in each: alone, it looks like a mean divided twice."""

    def body(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        for step in range(48):
            optimizer.zero_grad()
            x, labels = batch(step, size=8)
            (torch.nn.functional.cross_entropy(model(x), labels) / 8).backward()
            if step % 8 == 7:
                optimizer.step()

    (finding,) = judged(loop(body), tmp_path / "run")
    assert finding.code == "SG302"
    assert "SG310" in finding.related


@pytest.mark.parametrize("program", HEALTHY.values(), ids=HEALTHY)
def test_nothing_is_found_in_a_loop_that_is_right(program: Program, tmp_path: Path) -> None:
    assert judged(program, tmp_path / "run") == ()
    run = open_run(tmp_path / "run")
    reasons = [
        status.reason.render()
        for status in diagnose(run.blocks(1024), notes=run.notes, facts=run.facts).statuses()
    ]
    assert not [reason for reason in reasons if reason.startswith("failed")]
