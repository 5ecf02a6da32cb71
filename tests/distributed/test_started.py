"""Processes that a script starts, or that torchrun does, are one run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import seismograd
from tests.distributed.processes import HERE, Ended, environment

pytestmark = [pytest.mark.ranks, pytest.mark.slow]

LIMIT_S = 180
LOOPS = (  # their rows in docs/loops.md
    ("torchrun", "before step; rank 0 records what all of them hold"),
    ("torch.multiprocessing.spawn, of a script", "before step; likewise"),
    ("multiprocessing.Process, forked", "before step; likewise"),
)


def python(arguments: list[str], cwd: Path) -> Ended:
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("method", ["spawn", pytest.param("fork", marks=pytest.mark.extended)])
def test_processes_that_a_script_starts_are_followed(method: str, tmp_path: Path) -> None:
    script = str(HERE / "started.py")
    watched = python(
        [
            "-m",
            "seismograd",
            "run",
            "--quiet",
            "--out",
            "run",
            script,
            method,
            str(tmp_path / "watched"),
        ],
        tmp_path,
    )
    alone = python([script, method, str(tmp_path / "alone")], tmp_path)
    assert (watched.code, watched.out, watched.err) == (alone.code, alone.out, alone.err)
    assert (tmp_path / "watched.weights").read_text() == (tmp_path / "alone.weights").read_text()
    run = seismograd.open_run(tmp_path / "run")
    assert (len(run.steps), run.ended, run.notes) == (6, True, ())
    assert [p.name for p in run.parameters] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    np.testing.assert_allclose(
        run.series("grad_norm"), json.loads((tmp_path / "watched.norms").read_text()), 1e-6
    )
    assert run.ranks["rank"].tolist() == [0, 1] * 6
    assert (run.ranks["flags"] & 1).all()
    losses = run.ranks["loss"].reshape(6, 2)
    assert (losses[:, 0] != losses[:, 1]).all()
    np.testing.assert_allclose(run.steps["loss"], losses.mean(1))


def test_a_failure_in_a_started_process_looks_as_it_does_without_us(tmp_path: Path) -> None:
    script = str(HERE / "started.py")
    watched = python(
        [
            "-m",
            "seismograd",
            "run",
            "--quiet",
            "--out",
            "run",
            script,
            "spawn",
            str(tmp_path / "watched"),
            "failing",
        ],
        tmp_path,
    )
    assert watched.code == 1
    assert "RuntimeError: this rank fails" in watched.err
    assert "seismograd" not in watched.err
    assert len(seismograd.open_run(tmp_path / "run").steps) == 6


@pytest.mark.extended
def test_torchrun_sends_one_run_to_a_url(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    url = (tmp_path / "store" / "one").as_uri()
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = ["--out", url, "--upload-wait", "120", str(HERE / "torchrun.py")]
    ended = python([*launcher, "-m", "seismograd", "run", *words], tmp_path)
    assert ended.code == 0, ended.err
    assert ended.err.count(f"the record is also at {url}") == 1
    run = seismograd.open_run(tmp_path / "store" / "one")
    assert (run.num_rows, run.ended, sorted(run.ranks["rank"].tolist())) == (1, True, [0, 1])
    assert [each.name for each in (tmp_path / "store").iterdir()] == ["one"]


@pytest.mark.extended
def test_processes_that_train_alone_are_sent_beside_each_other(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    script = tmp_path / "alone.py"
    script.write_text(ALONE)
    url = (tmp_path / "store" / "one").as_uri()
    words = ["--out", url, "--upload-wait", "120", str(script)]
    ended = python(["-m", "seismograd", "run", *words], tmp_path)
    assert ended.code == 0, ended.err
    assert f"the record is also at {url}" in ended.err
    names = sorted(each.name for each in (tmp_path / "store").iterdir())
    assert names == ["one", "one-process-2"]
    for name in names:
        run = seismograd.open_run(tmp_path / "store" / name)
        assert (run.num_rows, run.ended) == (5, True)


ALONE = """
import torch
import torch.multiprocessing

def train(rank):
    net = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        net(torch.ones(2, 3)).square().mean().backward()
        optimizer.step()

if __name__ == "__main__":
    torch.multiprocessing.spawn(train, nprocs=2)
"""


def test_torchrun_gives_one_run(tmp_path: Path) -> None:
    """Every rank is started with the same `--out`; only the first one writes and says where."""
    script = str(HERE / "torchrun.py")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    ended = python([*launcher, "-m", "seismograd", "run", "--out", "run", script], tmp_path)
    assert ended.code == 0, ended.err
    # the two write at once: lines may run together
    assert [ended.out.count(f"rank {rank} of 2") for rank in range(2)] == [1, 1]
    assert ended.err.count("record: run") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    run = seismograd.open_run(tmp_path / "run")
    # one step only: it is handed on when the group is gone already
    assert (len(run.steps), run.ended, run.notes) == (1, True, ())
    assert run.ranks["rank"].tolist() == [0, 1]
    assert (run.ranks["flags"] & 1).all()
