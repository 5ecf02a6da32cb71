"""Stored runs read and are judged as they were when they were stored; `tools/stored_runs.py`
makes them again.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stored_runs.stored import HERE, RUNS, answers, masked, record, unpack

NAMES = sorted(path.stem for path in RUNS.glob("*.zip"))


@pytest.mark.parametrize("name", NAMES)
def test_a_stored_run_is_answered_as_before(name: str, tmp_path: Path) -> None:
    unpack(name, tmp_path / "run")
    said = answers(tmp_path / "run")
    for kind, text in said.items():
        assert text == (RUNS / f"{name}.{kind}.json").read_text(encoding="utf-8"), kind


def test_every_program_has_a_stored_run() -> None:
    pytest.importorskip("torch")
    from tests.stored_runs.programs import PROGRAMS

    assert sorted(PROGRAMS) == NAMES


def test_the_same_training_is_recorded_bit_for_bit(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    record("exact", tmp_path / "now", 1)
    unpack("exact", tmp_path / "then")
    now, then = masked(tmp_path / "now"), masked(tmp_path / "then")
    assert now.keys() == then.keys()
    assert [name for name in now if now[name] != then[name]] == []


def test_the_lines_of_the_programs_fit_both_formats() -> None:
    """Records point to lines of the programs, which a formatter must not move."""
    assert (
        max(len(line) for line in (HERE / "programs.py").read_text(encoding="utf-8").splitlines())
        <= 100
    )
