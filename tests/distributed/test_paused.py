"""A pause ends an iteration on every process, and however they cut, their steps stay together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import seismograd
from seismograd.distributed.iteration_numbers import IterationNumbers
from seismograd.distributed.peer import PeerRank
from seismograd.distributed.report_frames import FrameKind
from seismograd.schema import EventFlag, EventKind, RankFlag, RowBatch
from tests import synthetic
from tests.distributed.paused import PAUSED_AT, STEPS
from tests.distributed.processes import HERE, environment, start

LIMIT_S = 120


def wait_for_rows(path: Path, num_rows: int) -> None:
    patience = time.monotonic() + LIMIT_S
    while time.monotonic() < patience:
        if (path / "meta.json").exists() and len(seismograd.open_run(path).steps) >= num_rows:
            return
        time.sleep(0.05)


@pytest.mark.ranks
@pytest.mark.slow
def test_the_last_step_before_a_pause_survives_the_kill_of_all_ranks(tmp_path: Path) -> None:
    out = tmp_path / "run"
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *launcher, str(HERE / "paused.py"), "last", str(out)]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stderr=subprocess.DEVNULL
    ) as process:
        try:
            wait_for_rows(out, STEPS)
            ranks = [int(Path(f"{out}.pid{rank}").read_text()) for rank in range(2)]
        finally:
            process.kill()
    for rank in ranks:
        os.kill(rank, signal.SIGKILL)
    run = seismograd.open_run(out)
    assert not run.ended
    assert run.steps["iteration"].tolist() == list(range(STEPS))
    assert np.isfinite(run.series("grad_norm")).all()
    assert run.steps["loss"].tolist() == [10 * step + 0.5 for step in range(STEPS)]
    assert (run.ranks["flags"] & RankFlag.REPORTED).all()


@pytest.mark.ranks
@pytest.mark.slow
def test_a_rank_that_cuts_an_iteration_in_two_loses_none_that_follow(tmp_path: Path) -> None:
    ended = start([str(HERE / "paused.py"), "between", str(tmp_path / "run")], 2, tmp_path)
    assert [each.code for each in ended] == [0, 0], ended[0].err[-3000:]
    run = seismograd.open_run(tmp_path / "run")
    assert run.ended
    steps = [*range(PAUSED_AT + 1), *range(PAUSED_AT, STEPS)]
    assert run.steps["num_steps"].tolist() == [1 if s == PAUSED_AT else 2 for s in steps]
    ranks = run.ranks.reshape(-1, 2)
    assert ranks["loss"][:, 0].tolist() == [10 * step for step in steps]
    extra = PAUSED_AT + 1
    reported = (ranks["flags"][:, 1] & RankFlag.REPORTED).astype(bool)
    assert np.flatnonzero(~reported).tolist() == [extra]
    assert (ranks["loss"][reported, 1] - ranks["loss"][reported, 0] == 1).all()
    (note,) = run.notes
    assert (note.kind, note.iteration) == ("rank", extra)
    assert "not step 4" in note.message.render()


def row(*events: str) -> RowBatch:
    """A row with these events: a backward, one within a closure, or the step of an optimizer."""
    made = {
        "backward": synthetic.event(EventKind.BACKWARD, 0),
        "evaluation": synthetic.event(EventKind.BACKWARD, 0, flags=EventFlag.CLOSURE),
    }
    return synthetic.block(
        [[1.0]],
        events=[
            made[each] if each in made else synthetic.event(EventKind.STEP, 0, optimizer=int(each))
            for each in events
        ],
    )


@pytest.mark.parametrize(
    ("rows", "numbers"),
    [
        ([("backward", "0"), ("backward", "0"), ("backward", "1")], [(0, 0), (1, 0), (2, 0)]),
        ([("backward", "0"), ("1",), ("2",), ("backward", "0")], [(0, 0), (0, 1), (0, 2), (1, 0)]),
        ([("backward", "0", "1"), ("0",), ("1",)], [(0, 0), (1, 0), (1, 1)]),
        ([("backward",), ("backward",)], [(0, 0), (1, 0)]),  # by hand
        ([("0",), ("0",)], [(0, 0), (1, 0)]),  # compiled
        ([("0", "evaluation"), ("1", "evaluation"), ("0",)], [(0, 0), (0, 1), (1, 0)]),
    ],
    ids=["plain", "cut", "again", "by hand", "compiled", "closures"],
)
def test_rows_are_numbered_by_what_happened_in_them(
    rows: list[tuple[str, ...]], numbers: list[tuple[int, int]]
) -> None:
    counted = IterationNumbers()
    assert [divmod(counted.take(row(*events)), 256) for events in rows] == numbers
    assert counted.num_begun == numbers[-1][0] + 1


def test_a_report_that_will_not_come_is_not_awaited() -> None:
    peer = PeerRank(1)
    assert peer.awaited(0)
    for index in (0, 512):
        peer.take(FrameKind.REPORT, np.array([index], "<i8").tobytes() + bytes(24), 0)
    assert not peer.awaited(256)
    assert peer.report(256) is None
    assert not peer.awaited(512)
    assert peer.awaited(513)
