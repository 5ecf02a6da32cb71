"""SG113 on real training programs, and however the record is cut."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from seismograd.analysis.schedule_code import limited  # noqa: E402
from seismograd.diagnosis.whole_record import diagnose  # noqa: E402
from seismograd.record.reader import open_run  # noqa: E402
from seismograd.rules.sg113_schedule_mismatch import ScheduleMismatch  # noqa: E402
from seismograd.schema import Fact, FactKind  # noqa: E402
from tests.rules.cutting import cut  # noqa: E402
from tests.rules.programs import Program  # noqa: E402
from tests.rules.schedule_faults import GROWING, HEALTHY, HIGH, MISMATCHED  # noqa: E402
from tests.rules.test_programs import judged  # noqa: E402
from tests.synthetic import block  # noqa: E402

IN_THE_ADVICE = {
    "cosine in epochs, per batch, loader": "count epochs",
    "object in epochs, loader": "count epochs",
    "one cycle in batches, per epoch": "optimizer steps",
    "warm-up and cosine in batches, per epoch": "optimizer steps",
    "one cycle in samples, loader": "len(loader)",
    "cosine in samples": "len(loader)",
    "one cycle in micro-batches": "micro-batches",
    "before the epoch": "after optimizer.step()",
    "of another optimizer": "for the optimizer that is stepped",
    "begun anew": "once",
    "finished, and loaded": "do not load the state of the scheduler",
    "never stepped": "call scheduler.step()",
    "a rate in place of a factor": "return a factor",
    "a warm-up of rates in place of factors": "return a factor",
    "a warm-up longer than the training": "a small part of the training",
    "maximum of a loss": "mode='min'",
    "minimum of an accuracy": "mode='max'",
}

IN_THE_CODE = {
    "one cycle in batches, per epoch": "optimizer.step()\nscheduler.step()",
    "before the epoch": "scheduler.step()  # once per epoch",
}


@pytest.mark.parametrize(("kind", "program"), MISMATCHED.items(), ids=MISMATCHED)
def test_a_schedule_that_does_not_fit_is_the_first_finding(
    kind: str, program: Program, tmp_path: Path
) -> None:
    findings = judged(program, tmp_path / "run")
    assert [finding.code for finding in findings] == ["SG113"]
    assert "schedule_faults.py:" in findings[0].where
    assert findings[0].cause.render()
    assert IN_THE_ADVICE.get(kind, "") in findings[0].advice.render()
    assert IN_THE_CODE.get(kind, "") in findings[0].excerpt
    facts = [each for each in open_run(tmp_path / "run").facts if each.kind == FactKind.SCHEDULE]
    told = Counter(each.values["number"] for each in facts)
    # Some of them are called 160 times: a fact is reported at a number of calls that doubles.
    assert max(told.values(), default=0) < 12


@pytest.mark.parametrize("program", HEALTHY.values(), ids=HEALTHY)
def test_a_schedule_that_fits_is_healthy(program: Program, tmp_path: Path) -> None:
    assert judged(program, tmp_path / "run") == ()
    run = open_run(tmp_path / "run")
    assert not [note for note in run.notes if note.kind == "failure"]


@pytest.mark.parametrize("program", GROWING.values(), ids=GROWING)
def test_a_rate_that_grows_until_the_loss_explodes_is_the_cause(
    program: Program, tmp_path: Path
) -> None:
    (finding,) = judged(program, tmp_path / "run")
    assert (finding.code, finding.severity) == ("SG113", "error")
    assert "raises the learning rate without end" in finding.cause.render()


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        (
            "s = LambdaLR(opt, lambda e: (e + 1) ** 2)",
            "s = LambdaLR(opt, lambda e: min(1.0, (e + 1) ** 2))",
        ),
        (
            "s = LambdaLR(opt, lr_lambda=grow)",
            "s = LambdaLR(opt, lr_lambda=lambda step: min(1.0, grow(step)))",
        ),
        ("s = lr.StepLR(opt, 10, 2.0)", "s = lr.StepLR(opt, 10, 0.5)"),
        ("s = ExponentialLR(opt, gamma=1.1)", "s = ExponentialLR(opt, gamma=0.955)"),
        ("s = LambdaLR(opt, lambda e: min(1.0, e / 9))", ""),
        ("s = StepLR(opt, 10, gamma=g)", ""),
        ("s = Mine(opt, 2.0)", ""),
        ("", ""),
    ],
)
def test_what_limits_a_rate_is_written_as_the_script_has_it(written: str, wanted: str) -> None:
    fact = Fact(FactKind.SCHEDULE, 0, values={"creation": written, "calls": 100})
    assert limited(fact) == wanted


@pytest.mark.parametrize("program", HIGH.values(), ids=HIGH)
def test_a_rate_that_is_as_high_as_it_was_meant_to_be_is_no_fault_of_the_schedule(
    program: Program, tmp_path: Path
) -> None:
    codes = {finding.code for finding in judged(program, tmp_path / "run")}
    assert codes
    assert "SG113" not in codes


@given(st.sets(st.integers(1, 29)), st.integers(0, 3))
def test_it_does_not_depend_on_the_cut(cuts: set[int], wrong: int) -> None:
    falling = block(np.ones((30, 2)), loss=np.linspace(2, 1, 30))
    common = {"number": 0, "calls": 30, "lr": 0.1, "ended": 1}
    facts = [
        Fact(
            FactKind.SCHEDULE,
            step,
            "train.py:9",
            0,
            (),
            common
            | {"scheduler": "CosineAnnealingLR", "periodic": 1, "length": 3.0, "stepped": step > 0}
            | {"calls": step + 1, "steps": step + 1, "zero_since": -1, "low_since": -1},
        )
        for step in (0, 1, 3, 7, 15, 29)
    ]
    plateau = {"mode": "max", "first": 2.0, "last": 1.0, "falls": 9, "rises": 0, "reductions": 2}
    facts.append(Fact(FactKind.PLATEAU, 29, "train.py:9", 1, (), common | plateau))
    given_ = facts if wrong == 0 else facts[wrong:]
    whole = diagnose([falling], [ScheduleMismatch], facts=given_).findings()
    assert whole
    assert diagnose(cut(falling, cuts), [ScheduleMismatch], facts=given_).findings() == whole
