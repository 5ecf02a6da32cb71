"""The rules about loops where the step evaluates the loss itself."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from seismograd.diagnosis.engine import CLEAR, NOT_EVALUATED, RuleStatus  # noqa: E402
from seismograd.diagnosis.whole_record import diagnose  # noqa: E402
from seismograd.record.reader import open_run  # noqa: E402
from tests.rules.loops_at_fault import loop  # noqa: E402
from tests.rules.loops_with_closures import FAULTY, HEALTHY, lbfgs, perturbed  # noqa: E402
from tests.rules.programs import Program, classify  # noqa: E402
from tests.rules.test_programs import judged  # noqa: E402

LOOKED_AT = ("SG301", "SG302", "SG303", "SG304", "SG307", "SG308", "SG309")


def statuses(path: Path) -> dict[str, RuleStatus]:
    run = open_run(path)
    return {
        status.code: status for status in diagnose(run.blocks(1024), notes=run.notes).statuses()
    }


@pytest.mark.parametrize(("code", "program"), FAULTY.values(), ids=FAULTY)
def test_a_fault_is_the_first_finding_and_hardly_another_is_made(
    code: str, program: Program, tmp_path: Path
) -> None:
    findings = judged(program, tmp_path / "run")
    assert [finding.code for finding in findings][:1] == [code]
    assert len(findings) <= 2


@pytest.mark.parametrize("program", HEALTHY.values(), ids=HEALTHY)
def test_nothing_is_found_in_a_loop_that_is_right(program: Program, tmp_path: Path) -> None:
    assert judged(program, tmp_path / "run") == ()


def test_one_step_suffices_where_a_closure_adds_to_what_it_computed_before(tmp_path: Path) -> None:
    def once(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        def closure() -> torch.Tensor:
            loss = classify(model, 0)
            loss.backward()
            return loss

        optimizer.step(closure)

    (finding,) = judged(loop(once, optimize=lbfgs), tmp_path / "run")
    assert (finding.code, finding.first_step, finding.last_step) == ("SG301", 0, 0)
    assert "within the closure" in finding.advice.render()
    assert finding.excerpt.startswith("optimizer.zero_grad()  # the first line of the closure")
    assert "test_closures.py" in finding.where


def test_the_loss_of_a_step_that_evaluates_twice_is_that_of_its_own_weights(tmp_path: Path) -> None:
    losses: list[float] = []
    assert judged(lambda listen: losses.extend(perturbed(listen)), tmp_path / "run") == ()
    recorded = [
        float(loss) for block in open_run(tmp_path / "run").blocks() for loss in block.steps["loss"]
    ]
    assert recorded == pytest.approx(losses)


def test_what_cannot_be_seen_of_a_closure_is_not_called_clear(tmp_path: Path) -> None:
    judged(HEALTHY["accumulated"], tmp_path / "run")
    found = statuses(tmp_path / "run")
    assert {code: found[code].status for code in LOOKED_AT} == dict.fromkeys(LOOKED_AT, CLEAR)
    assert found["SG310"].status == NOT_EVALUATED
    assert "closure" in found["SG310"].reason.render()


def test_a_step_that_clears_what_it_used_is_not_called_clear(tmp_path: Path) -> None:
    judged(HEALTHY["sharpness-aware minimisation"], tmp_path / "run")
    assert statuses(tmp_path / "run")["SG302"].status == NOT_EVALUATED
