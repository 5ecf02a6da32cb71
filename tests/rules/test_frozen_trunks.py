"""SG403 on programs of which nearly everything is frozen."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from seismograd.record.reader import open_run  # noqa: E402
from tests.rules.frozen_trunks import FAULTY, HEALTHY  # noqa: E402
from tests.rules.programs import Program  # noqa: E402
from tests.rules.test_programs import judged  # noqa: E402


@pytest.mark.parametrize(("words", "program"), FAULTY.values(), ids=FAULTY)
def test_what_is_frozen_by_mistake_is_found(words: str, program: Program, tmp_path: Path) -> None:
    (finding,) = judged(program, tmp_path / "run")
    assert (finding.code, finding.severity) == ("SG403", "warning")
    assert words in finding.cause.render()


@pytest.mark.parametrize("program", HEALTHY.values(), ids=HEALTHY)
def test_what_is_frozen_on_purpose_is_healthy(program: Program, tmp_path: Path) -> None:
    assert "SG403" not in {each.code for each in judged(program, tmp_path / "run")}
    assert not [note for note in open_run(tmp_path / "run").notes if note.kind == "failure"]
