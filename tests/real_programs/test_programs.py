"""Libraries that train, imported and driven as in their tutorials, under `seismograd run`."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.real_programs.judging import judge, missing_packages
from benchmarks.real_programs.programs import PROGRAMS, Program

IN_CI = (
    "Transformers, Trainer",
    "Transformers, Trainer on a classifier",
    "accelerate, no_trainer loop",
    "PEFT, LoRA",
    "Lightning, automatic",
    "Lightning, manual (GAN)",
    "skorch, fit",
    "torch.optim.Muon and AdamW",
)

# A framework that drives the loop, and a loop by hand; tests/integrations has the others.
EACH_TIME = {"Lightning, automatic", "torch.optim.Muon and AdamW"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "program",
    [
        pytest.param(
            program,
            id=program.name,
            marks=() if program.name in EACH_TIME else pytest.mark.extended,
        )
        for program in PROGRAMS
        if program.name in IN_CI
    ],
)
def test_it_trains_the_same_bits_and_the_record_says_what_happened(
    program: Program,
    tmp_path: Path,
) -> None:
    missing = missing_packages(program)
    if missing:
        pytest.skip(f"{', '.join(missing)}: not installed")
    verdict = judge(program, tmp_path / "sources", tmp_path)
    assert verdict.differences == ()
    assert verdict.num_steps > 0
    assert verdict.num_recorded == verdict.num_steps
    assert verdict.names == ()
    assert verdict.num_norms > verdict.num_steps
    assert verdict.norms == ()
    assert {code for code, _ in verdict.findings} == set(program.true_findings)
    assert verdict.notes == ()


def test_every_program_of_these_is_in_the_list() -> None:
    assert set(IN_CI) <= {program.name for program in PROGRAMS}
    assert set(IN_CI) > EACH_TIME
