"""The loop as it was written: which lines were called, in which order, how often."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from seismograd.cli import main
from seismograd.diagnosis.verdict import make_verdict
from seismograd.record.reader import open_run
from seismograd.schema import AnyArray, EventKind, Site
from seismograd.views.loop import read_loop
from seismograd.views.page_api.packing import unpack
from seismograd.views.page_api.run_source import RunSource
from tests.synthetic import block, event, finding, ordinary_events, write_run


def lines_of(path: Path, num_steps: int, events: list[AnyArray]) -> list[tuple[str, int, int]]:
    made = block(np.ones((num_steps, 2)), events=events)
    loop = read_loop(open_run(write_run(path, [made])), ())
    assert loop.num_steps == min(num_steps, 200)
    return [(each.kind.name, each.site, each.count) for each in loop.lines]


@pytest.mark.parametrize("num_steps", [3, 500])
def test_the_plain_loop_is_three_lines_in_their_order(tmp_path: Path, num_steps: int) -> None:
    found = lines_of(tmp_path / "run", num_steps, ordinary_events(num_steps))
    num = min(num_steps, 200)
    assert found == [("ZERO_GRAD", 0, num), ("BACKWARD", 1, num), ("STEP", 2, num)]


def test_a_verb_that_no_line_called_is_named(tmp_path: Path) -> None:
    events = [each for each in ordinary_events(6) if each["kind"] != EventKind.ZERO_GRAD]
    found = lines_of(tmp_path / "run", 6, events)
    assert found[0] == ("ZERO_GRAD", -1, 0)
    assert [kind for kind, _, _ in found] == ["ZERO_GRAD", "BACKWARD", "STEP"]


def test_accumulation_counts_every_backward_of_its_line(tmp_path: Path) -> None:
    events = [
        each
        for step in range(5)
        for each in (
            event(EventKind.ZERO_GRAD, step, site=0),
            *[event(EventKind.BACKWARD, step, site=1, value=1.0)] * 4,
            event(EventKind.STEP, step, site=2),
        )
    ]
    assert lines_of(tmp_path / "run", 5, events)[1] == ("BACKWARD", 1, 20)


def not_cleared(path: Path) -> Path:
    """A run with four backwards in a step and no zero_grad, which SG301 found."""
    events = [
        each
        for step in range(5)
        for each in (
            *[event(EventKind.BACKWARD, step, site=0, value=1.0)] * 4,
            event(EventKind.STEP, step, site=1),
        )
    ]
    sites = (
        Site("train.py", 7, "main", text="loss.backward()"),
        Site("train.py", 9, "main", text="optimizer.step()"),
    )
    made = block(np.ones((5, 2)), events=events, sites=sites)
    found = finding(code="SG301", name="missing-zero-grad", severity="error", where="train.py:9")
    return write_run(path, [made], findings=[found])


def test_the_terminal_shows_the_loop_and_marks_the_fault_at_its_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    not_cleared(tmp_path / "run")
    assert main(["show", "run", "--loop"]) == 0
    shown = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "– zero_grad ×0 ← SG301" in shown
    assert "train.py:7 backward ×4 per step loss.backward()" in shown
    assert "train.py:9 step ×1 per step optimizer.step()" in shown
    assert main(["show", "run", "--loop", "--lang", "zh"]) == 0
    assert "每步 ×4" in capsys.readouterr().out


def test_a_report_has_the_source_only_where_it_is_asked_for(tmp_path: Path) -> None:
    run = open_run(not_cleared(tmp_path / "run"))
    verdict = make_verdict(run, run.findings, ())
    for with_source in (False, True):
        meta = RunSource(verdict, with_source=with_source).meta()
        lines = unpack(meta)[0]["loop"]["lines"]
        assert [each["findings"] for each in lines] == [[0], [], []]
        assert [each["source"] for each in lines[1:]] == (
            ["loss.backward()", "optimizer.step()"] if with_source else ["", ""]
        )
        assert (b"loss.backward()" in meta) == with_source
