"""SG101 and SG102 through time, on real recurrent networks."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import seismograd  # noqa: E402
from seismograd.capture.probes.time_profiles import _recurrences  # noqa: E402
from seismograd.diagnosis.whole_record import diagnose  # noqa: E402
from seismograd.record.reader import open_run  # noqa: E402
from seismograd.schema import FactKind  # noqa: E402
from tests.rules.recurrence_faults import (  # noqa: E402
    FAULTY,
    HEALTHY,
    INPUTS,
    LENGTH,
    Alike,
    Layer,
    Program,
    Unrolled,
    recall,
)
from tests.rules.test_programs import judged  # noqa: E402


@pytest.mark.parametrize(("code", "program"), FAULTY.values(), ids=FAULTY)
def test_a_gradient_that_is_lost_or_grows_through_time_is_found(
    code: str, program: Program, tmp_path: Path
) -> None:
    findings = judged(program, tmp_path / "run")
    assert [finding.code for finding in findings] == [code]
    assert "each step back in time multiplies the gradient by" in findings[0].cause.render()
    assert "weight" in findings[0].parameters[0]
    assert "recurrence_faults.py:" in findings[0].where
    told = [f for f in open_run(tmp_path / "run").facts if f.kind == FactKind.THROUGH_TIME]
    assert 4 <= len(told) <= 20
    assert {f.number("steps") for f in told} == {LENGTH}


@pytest.mark.parametrize("program", HEALTHY.values(), ids=HEALTHY)
def test_a_recurrence_that_learns_is_healthy(program: Program, tmp_path: Path) -> None:
    assert judged(program, tmp_path / "run") == ()
    assert not [note for note in open_run(tmp_path / "run").notes if note.kind == "failure"]


def test_what_one_operation_hides_is_said(tmp_path: Path) -> None:
    if _recurrences([Layer(torch.nn.LSTM)(torch.randn(2, LENGTH, INPUTS)).grad_fn]):
        pytest.skip("torch unrolls nn.LSTM here")
    judged(recall(lambda: Layer(torch.nn.LSTM), 0), tmp_path / "run")
    run = open_run(tmp_path / "run")
    statuses = diagnose(run.blocks(), notes=run.notes, facts=run.facts).statuses()
    reason = next(each.reason.render() for each in statuses if each.code == "SG101")
    assert "nn.LSTM run as one operation" in reason


def test_only_a_weight_that_depends_on_its_last_use_is_recurrent() -> None:
    x = torch.randn(2, LENGTH, INPUTS)
    ((weight, products),) = _recurrences([Unrolled(1.0)(x).grad_fn])
    assert (weight.shape[0], len(products)) == (24, LENGTH)
    assert _recurrences([Alike()(x).grad_fn]) == []


def test_measuring_changes_no_gradient_and_leaves_no_hook(tmp_path: Path) -> None:
    def gradients(watch: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = Unrolled(0.9)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        x, kept = torch.randn(8, LENGTH, INPUTS), []
        with seismograd.watch(model, optimizer, out=tmp_path / "run") if watch else torch.no_grad():
            for _ in range(12):
                with torch.enable_grad():
                    optimizer.zero_grad()
                    model(x).square().mean().backward()
                kept += [p.grad.clone() for p in model.parameters()]
                optimizer.step()
        return kept

    for plain, watched in zip(gradients(False), gradients(True), strict=True):
        assert torch.equal(plain, watched)
