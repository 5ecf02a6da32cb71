"""Guarded training on several processes: all of them leave out the same updates, or none does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import seismograd
from seismograd.record.reader import Run
from seismograd.schema import StepFlag
from tests.distributed.guarded import BAD, HUGE
from tests.distributed.processes import start

pytestmark = [pytest.mark.ranks, pytest.mark.slow]

PROGRAM = Path(__file__).parent / "guarded.py"


def train(how: str, tmp_path: Path) -> tuple[list[dict[str, Any]], Run]:
    ended = start([str(PROGRAM), how, str(tmp_path / "run")], 2, tmp_path)
    assert [each.code for each in ended] == [0, 0], ended[0].err + ended[1].err
    return [each.json()[0] for each in ended], seismograd.open_run(tmp_path / "run")


def guarded_steps(run: Run) -> list[int]:
    return run.steps["iteration"][run.steps["flags"] & int(StepFlag.GUARDED) != 0].tolist()


def test_replicas_leave_out_the_same_updates_and_stay_the_same(tmp_path: Path) -> None:
    told, run = train("replicas", tmp_path)
    assert guarded_steps(run) == [BAD, HUGE]
    assert told[0]["weights"] == told[1]["weights"]
    assert "nan" not in told[0]["weights"]
    assert [each["steps"] for each in told] == [[22], [22]]
    assert "SG701" not in {finding.code for finding in run.findings}


@pytest.mark.parametrize(
    "how",
    [
        pytest.param("separate", marks=pytest.mark.extended),
        "unsynced",
        pytest.param("sharded", marks=pytest.mark.extended),
    ],
)
def test_where_processes_could_decide_differently_nothing_is_left_out(
    how: str, tmp_path: Path
) -> None:
    told, run = train(how, tmp_path)
    assert guarded_steps(run) == []
    assert [each["steps"] for each in told] == [[24], [24]]
    (note,) = [note for note in run.notes if note.kind == "guard"]
    assert "could not decide alike" in note.message.render()
