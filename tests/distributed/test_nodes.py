"""Two nodes that share no directory: rank 0 records what all measure, and where its port cannot be
reached, `seismograd merge` makes that record of theirs.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import seismograd
from seismograd.cli import main
from seismograd.schema import State
from tests.distributed.processes import HERE, environment, free_port

pytestmark = [pytest.mark.ranks, pytest.mark.slow, pytest.mark.extended]

LIMIT_S = 240


def train(folder: Path, **more: str) -> list[str]:
    """Run the script on two nodes; return what each wrote to stderr."""
    port = free_port()
    agents: list[subprocess.Popen[str]] = []
    for node in range(2):
        (folder / f"node-{node}").mkdir(parents=True)
        launcher = ["-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
        where = ["--node-rank", str(node), "--master-addr", "127.0.0.1", "--master-port", str(port)]
        ours = ["-m", "seismograd", "run", "--out", "run", str(HERE / "nodes.py")]
        agents.append(
            subprocess.Popen(
                [sys.executable, *launcher, *where, *ours],
                cwd=folder / f"node-{node}",
                env=environment() | more,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        told = [agent.communicate(timeout=LIMIT_S)[1] for agent in agents]
    finally:
        for agent in agents:
            agent.kill()
    assert [agent.returncode for agent in agents] == [0, 0], told
    return told


def test_nodes_that_share_no_directory_are_one_record(tmp_path: Path) -> None:
    train(tmp_path / "open")
    assert list((tmp_path / "open/node-1").iterdir()) == []
    whole = seismograd.open_run(tmp_path / "open/node-0/run")
    assert whole.ranks["rank"].tolist() == [0, 1] * 12
    assert (whole.states == State.FINITE).all()
    assert not (whole.path / "reports").exists()

    told = train(tmp_path / "closed", CLOSED="1")
    (apart,) = (tmp_path / "closed/node-1").iterdir()
    assert apart.name == "run-rank-1"
    assert "rank 1 could not reach rank 0, so what it measured is in" in told[1]
    main_path = tmp_path / "closed/node-0/run"
    assert (seismograd.open_run(main_path).states == State.NOT_MEASURED).all()
    assert "rank 1 cannot reach rank 0" in " ".join(told[0].split())
    out = tmp_path / "merged"
    assert main(["merge", str(main_path), str(apart), "--out", str(out)]) == 0
    run = seismograd.open_run(out)
    assert run.parameters == whole.parameters
    np.testing.assert_array_equal(run.states, whole.states)
    for name in ("grad_norm", "grad_max", "grad_sum", "zeros"):
        np.testing.assert_allclose(run.series(name), whole.series(name), 1e-9)
    np.testing.assert_allclose(run.steps["loss"], whole.steps["loss"], 1e-9)
    np.testing.assert_allclose(run.steps["grad_norm"], whole.steps["grad_norm"], 1e-9)
    assert run.ranks["rank"].tolist() == [0, 1] * 12
    assert main(["check", str(out)]) in (0, 1)
