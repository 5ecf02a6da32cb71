"""The rules on real training programs, listened to as a user would."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import seismograd  # noqa: E402
from seismograd.diagnosis.whole_record import diagnose  # noqa: E402
from seismograd.record.reader import open_run  # noqa: E402
from seismograd.schema import Finding  # noqa: E402
from tests.rules.programs import FAULTY, HEALTHY, Program  # noqa: E402


def judged(program: Program, path: Path) -> tuple[Finding, ...]:
    """What is found live, which is what is found in the record."""
    sessions = []

    def listen(*watched: object) -> object:
        sessions.append(seismograd.watch(*watched, out=path))  # type: ignore[arg-type]
        return sessions[0]

    program(listen)
    live = sessions[0].findings
    run = open_run(path)
    for size in (1024, 7):
        again = diagnose(run.blocks(size), notes=run.notes, facts=run.facts, samples=run.sampled)
        assert repr(again.findings()) == repr(live)
    return tuple(finding for finding in live if finding.severity != "info")


@pytest.mark.parametrize(("code", "program"), FAULTY.values(), ids=FAULTY)
def test_a_fault_is_the_only_finding(code: str, program: Program, tmp_path: Path) -> None:
    findings = judged(program, tmp_path / "run")
    assert [finding.code for finding in findings] == [code]
    assert findings[0].parameters
    assert findings[0].cause.render()
    assert findings[0].advice.render()


@pytest.mark.parametrize("program", HEALTHY.values(), ids=HEALTHY)
def test_nothing_is_found_in_a_healthy_program(program: Program, tmp_path: Path) -> None:
    assert judged(program, tmp_path / "run") == ()
