"""SG401 on programs with a network that no optimizer holds: a copy, or what was forgotten."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from seismograd.diagnosis.whole_record import diagnose  # noqa: E402
from seismograd.record.reader import open_run  # noqa: E402
from seismograd.schema import Finding  # noqa: E402
from tests.rules.programs import Program  # noqa: E402
from tests.rules.stray_copies import HARMLESS, HEALTHY, STRAYS, followed  # noqa: E402
from tests.rules.test_programs import judged  # noqa: E402


def strays(path: Path) -> list[Finding]:
    run = open_run(path)
    verdict = diagnose(run.blocks(1024), notes=run.notes, facts=run.facts, samples=run.sampled)
    return [each for each in verdict.findings() if each.code == "SG401"]


@pytest.mark.parametrize(("words", "program"), HARMLESS.values(), ids=HARMLESS)
def test_a_copy_of_what_is_trained_is_no_fault(
    words: str, program: Program, tmp_path: Path
) -> None:
    assert judged(program, tmp_path / "run") == ()
    (finding,) = strays(tmp_path / "run")
    assert (finding.severity, len(finding.parameters)) == ("info", 4)
    assert words in finding.cause.render()


@pytest.mark.parametrize(("first", "program"), STRAYS.values(), ids=STRAYS)
def test_what_was_forgotten_is_an_error(first: str, program: Program, tmp_path: Path) -> None:
    (finding,) = judged(program, tmp_path / "run")
    assert (finding.code, finding.severity, finding.parameters[0]) == ("SG401", "error", first)


@pytest.mark.parametrize("program", HEALTHY.values(), ids=HEALTHY)
def test_what_looks_like_it_is_healthy(program: Program, tmp_path: Path) -> None:
    assert judged(program, tmp_path / "run") == ()
    assert strays(tmp_path / "run") == []
    assert not [note for note in open_run(tmp_path / "run").notes if note.kind == "failure"]


def test_a_copy_that_follows_nothing_and_is_held_for_nothing(tmp_path: Path) -> None:
    (finding,) = judged(followed(lambda *_: None), tmp_path / "run")
    assert (finding.code, finding.severity) == ("SG402", "warning")
    assert finding.parameters[0] == "target.0.weight"
