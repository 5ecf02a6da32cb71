"""SG111, SG112 and what looks like them on real programs, and however the record is cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from seismograd.diagnosis.whole_record import diagnose  # noqa: E402
from seismograd.record.reader import open_run  # noqa: E402
from seismograd.rules.sg111_weight_decay_dominates import WeightDecayDominates  # noqa: E402
from seismograd.rules.sg112.sg112_moves_without_gradient import MovesWithoutGradient  # noqa: E402
from seismograd.schema import FactKind  # noqa: E402
from tests.rules.decay_faults import FAULTY, HEALTHY, decayed, frozen_by_zeros, sgd  # noqa: E402
from tests.rules.programs import Program  # noqa: E402
from tests.rules.test_programs import judged  # noqa: E402


@pytest.mark.parametrize(("code", "program"), FAULTY.values(), ids=FAULTY)
def test_it_is_the_first_finding(code: str, program: Program, tmp_path: Path) -> None:
    findings = judged(program, tmp_path / "run")
    assert [finding.code for finding in findings] == [code]
    assert "decay_faults.py:" in findings[0].where
    assert findings[0].cause.render()
    told = [f for f in open_run(tmp_path / "run").facts if f.kind == FactKind.GROUP_SETTINGS]
    assert 1 <= len(told) <= 2


@pytest.mark.parametrize("program", HEALTHY.values(), ids=HEALTHY)
def test_what_looks_like_it_is_healthy(program: Program, tmp_path: Path) -> None:
    assert judged(program, tmp_path / "run") == ()
    assert not [note for note in open_run(tmp_path / "run").notes if note.kind == "failure"]


@given(st.sampled_from([1, 2, 3, 7, 19, 64]))
def test_it_does_not_depend_on_the_cut(size: int) -> None:
    for path in PATHS:
        run = open_run(path)
        rules = [WeightDecayDominates, MovesWithoutGradient]
        whole = diagnose(run.blocks(), rules, facts=run.facts).findings()
        assert whole
        assert diagnose(run.blocks(size), rules, facts=run.facts).findings() == whole


PATHS: list[Path] = []


@pytest.fixture(scope="module", autouse=True)
def _recorded(tmp_path_factory: pytest.TempPathFactory) -> None:
    for number, program in enumerate((decayed(sgd(0.5)), frozen_by_zeros(sgd(1e-3)))):
        path = tmp_path_factory.mktemp("decay") / str(number)
        judged(program, path)
        PATHS.append(path)


def test_a_decay_that_changes_is_told_again(tmp_path: Path) -> None:
    import seismograd

    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with seismograd.watch(model, optimizer, out=tmp_path / "run"):
        for step in range(40):
            optimizer.param_groups[0]["weight_decay"] = 0.1 * (step >= 20)
            optimizer.zero_grad()
            model(torch.ones(2, 4)).square().mean().backward()
            optimizer.step()
    told = [f for f in open_run(tmp_path / "run").facts if f.kind == FactKind.GROUP_SETTINGS]
    assert np.array_equal([f.number("weight_decay") for f in told], [0.0, 0.1])
