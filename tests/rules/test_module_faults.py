"""SG408 and SG110 on real training programs, and however the record is cut."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from torch.nn.functional import cross_entropy  # noqa: E402

import seismograd  # noqa: E402
from seismograd.diagnosis.whole_record import diagnose  # noqa: E402
from seismograd.record.reader import open_run  # noqa: E402
from seismograd.rules.sg408_left_in_eval_mode import LeftInEvalMode  # noqa: E402
from seismograd.schema import Fact, FactKind  # noqa: E402
from tests.rules import module_faults  # noqa: E402
from tests.rules.cutting import cut  # noqa: E402
from tests.rules.module_faults import HEALTHY, IN_EVAL, REMADE, SYMMETRIC  # noqa: E402
from tests.rules.programs import Program, batch  # noqa: E402
from tests.rules.test_programs import judged  # noqa: E402
from tests.synthetic import block  # noqa: E402


@pytest.mark.parametrize("program", IN_EVAL.values(), ids=IN_EVAL)
def test_a_model_that_stays_in_eval_mode_is_found(program: Program, tmp_path: Path) -> None:
    findings = judged(program, tmp_path / "run")
    assert [finding.code for finding in findings] == ["SG408"]
    assert findings[0].first_step in (0, 16, 32)
    assert "module_faults.py:" in findings[0].where


@pytest.mark.parametrize("program", SYMMETRIC.values(), ids=SYMMETRIC)
def test_units_that_are_all_the_same_are_found(program: Program, tmp_path: Path) -> None:
    findings = judged(program, tmp_path / "run")
    assert [finding.code for finding in findings] == ["SG110"]
    assert all(name.endswith("weight") for name in findings[0].parameters)


@pytest.mark.parametrize("program", REMADE.values(), ids=REMADE)
def test_what_the_forward_pass_makes_is_found(program: Program, tmp_path: Path) -> None:
    findings = judged(program, tmp_path / "run")
    assert [finding.code for finding in findings] == ["SG406"]
    assert "module_faults.py:" in findings[0].where


def test_the_line_that_makes_a_layer_is_named(tmp_path: Path) -> None:
    where = judged(REMADE["layer"], tmp_path / "run")[0].where
    line = Path(module_faults.__file__).read_text().splitlines()[int(where.rpartition(":")[2]) - 1]
    assert "nn.Linear(" in line
    gc.collect()
    assert not torch.nn.modules.module._global_parameter_registration_hooks


@pytest.mark.parametrize("program", HEALTHY.values(), ids=HEALTHY)
def test_what_looks_like_it_is_healthy(program: Program, tmp_path: Path) -> None:
    assert judged(program, tmp_path / "run") == ()
    run = open_run(tmp_path / "run")
    assert not [note for note in run.notes if note.kind == "failure"]
    assert len([fact for fact in run.facts if fact.kind == FactKind.LEFT_IN_EVAL]) <= 40


@pytest.mark.parametrize("is_frozen", [False, True])
@pytest.mark.parametrize("is_alone", [False, True])
def test_a_teacher_that_was_trained_before_may_be_in_eval_mode(
    is_frozen: bool, is_alone: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    teacher, student = module_faults.normed(), module_faults.normed()

    def trained(model: torch.nn.Module) -> None:
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        for step in range(60):
            x, labels = batch(step)
            optimizer.zero_grad()
            loss = cross_entropy(model(x), labels, label_smoothing=0.1)
            if model is student:
                loss = loss + (student(x) - teacher(x).detach()).square().mean()
            loss.backward()
            optimizer.step()

    watched = () if is_alone else (torch.nn.ModuleList([teacher, student]),)
    with seismograd.watch(*watched, out=tmp_path / "run") as recording:
        trained(teacher)
        teacher.eval()
        teacher.requires_grad_(not is_frozen)
        trained(student)
    assert [finding.code for finding in recording.findings if finding.severity != "info"] == []


@given(st.sets(st.integers(1, 59)), st.lists(st.tuples(st.integers(0, 59), st.booleans())))
def test_it_does_not_depend_on_the_cut(cuts: set[int], turns: list[tuple[int, bool]]) -> None:
    facts = [
        Fact(FactKind.LEFT_IN_EVAL, step, "train.py:9", values={"norms": 2, "back": int(back)})
        for step, back in sorted(turns)
    ]
    training = block(np.ones((60, 2)))
    whole = diagnose([training], [LeftInEvalMode], facts=facts).findings()
    assert diagnose(cut(training, cuts), [LeftInEvalMode], facts=facts).findings() == whole
    ends_in_eval = bool(turns) and not sorted(turns)[-1][1]
    assert len(whole) <= ends_in_eval
