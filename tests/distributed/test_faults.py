"""A process that dies or hangs does not keep the others, and the record says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import seismograd
from seismograd.schema import State
from tests.distributed.processes import HERE, Ended, environment, free_port

pytestmark = [pytest.mark.ranks, pytest.mark.slow]

LATE_S, NEVER_S, EXIT_S = 1, 60, 3
BUSY_S = 10  # what a busy machine may add
LIMIT_S = 120


def with_fault(fault: str, out: Path, late_s: int) -> Ended:
    """Rank 0's end; rank 1 is killed when it does not end by itself."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    limits = {"SEISMOGRAD_RANK_LATE_S": str(late_s), "SEISMOGRAD_RANK_EXIT_S": str(EXIT_S)}
    command = [sys.executable, str(HERE / "faults.py"), str(out), fault]
    environments = [environment(**shared, **limits, RANK=str(rank)) for rank in range(2)]
    other = subprocess.Popen(
        command, env=environments[1], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        first = subprocess.run(
            command,
            env=environments[0],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    finally:
        other.kill()
        other.wait()
    return Ended(first.returncode, first.stdout, first.stderr)


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ("killed", "disappeared"),
        ("hung", "late"),
        pytest.param("shorter", "ended", marks=pytest.mark.extended),
        pytest.param("unwatched", "late", marks=pytest.mark.extended),
    ],
)
def test_the_others_train_and_end_as_without_us_and_the_record_says_who_is_missing(
    fault: str, word: str, tmp_path: Path
) -> None:
    # on a busy machine a process may say nothing for a second before it is gone
    ended = with_fault(fault, tmp_path / "run", LATE_S if word == "late" else NEVER_S)
    assert ended.code == 0, ended.err
    assert ended.err == ""
    alone, watched = ended.json()
    assert alone["weights"] == watched["weights"]
    assert watched["end_s"] < LATE_S + EXIT_S + BUSY_S
    run = seismograd.open_run(tmp_path / "run")
    assert run.ended
    assert len(run.steps) == 12
    assert [p.name for p in run.parameters] == ["plain", "sharded"]
    assert len(run.notes) == 1
    text = run.notes[0].message.render()
    assert "rank 1" in text
    assert word in text
    assert (run.states[:, 0] == State.FINITE).all()
    missing = run.notes[0].iteration
    assert 0 <= missing <= 5
    assert (run.states[:missing, 1] == State.FINITE).all()
    # half of it would be a wrong number
    assert (run.states[missing:, 1] == State.NOT_MEASURED).all()
    np.testing.assert_allclose(
        run.series("grad_norm")[1:, 0], run.series("grad_norm")[:-1, 0] * 0.8, 1e-6
    )
    heard = run.ranks["flags"].reshape(-1, 2)[:, 1] & 1
    assert heard.tolist() == [1] * missing + [0] * (12 - missing)
