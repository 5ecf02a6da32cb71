"""The lines of docs/launchers.md record what they say, as they are written there."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from seismograd.record.reader import open_run
from tests.documented_code import code_in

TRAIN = """
import os, sys
import torch
import torch.distributed as dist
steps = int(sys.argv[sys.argv.index("--steps") + 1])
several = int(os.environ.get("WORLD_SIZE", "1")) > 1
if several:
    dist.init_process_group("gloo")
torch.manual_seed(0)
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
trained = torch.nn.parallel.DistributedDataParallel(model) if several else model
for step in range(steps):
    optimizer.zero_grad()
    trained(torch.ones(2, 4)).square().mean().backward()
    optimizer.step()
if several:
    dist.destroy_process_group()
"""
CONFIGURED = """
import hydra, torch
from omegaconf import OmegaConf
from hydra.core.config_store import ConfigStore
ConfigStore.instance().store(name="config", node={"optimizer": {"lr": 0.1}})
@hydra.main(version_base=None, config_path=None, config_name="config")
def main(config):
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=config.optimizer.lr)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.ones(2, 4)).square().mean().backward()
        optimizer.step()
main()
"""
LINES = [line for block in code_in("launchers.md", "sh") for line in block.splitlines()]
RUNNABLE = [line for line in LINES if not line.startswith("srun")]
MODULES = {"torchrun": "torch.distributed.run", "accelerate": "accelerate.commands.accelerate_cli"}


def test_every_launcher_has_its_line() -> None:
    assert len(LINES) == 6
    assert len(RUNNABLE) == 5


@pytest.mark.ranks
@pytest.mark.extended
@pytest.mark.parametrize("line", RUNNABLE, ids=lambda line: " ".join(line.split()[:3]))
def test_a_line_records_as_it_is_written(line: str, tmp_path: Path) -> None:
    needed = {"accelerate": "accelerate", "hydra": "hydra", "configured": "hydra"}
    for word, package in needed.items():
        if word in line:
            pytest.importorskip(package, exc_type=ImportError)
    (example,) = code_in("launchers.md", "python")
    for name, text in (
        ("train.py", TRAIN),
        ("configured.py", CONFIGURED),
        ("hydra_train.py", example),
    ):
        (tmp_path / name).write_text(text, encoding="utf-8")
    program, *words = shlex.split(line)
    # The launcher of this environment, whatever is on the path.
    start = ["-m", MODULES[program]] if program in MODULES else []
    if program == "torchrun" or "torch.distributed.run" in line:
        at = 0 if program == "torchrun" else words.index("torch.distributed.run") + 1
        words[at:at] = ["--standalone"]  # a port of its own, as other tests have theirs
    ran = subprocess.run(
        [sys.executable, *start, *words],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    found = [path.parent for path in tmp_path.rglob("meta.json")]
    assert len(found) == (2 if "--multirun" in line else 1), ran.stderr
    for run in map(open_run, found):
        assert run.num_rows == 3
        assert run.ended
        assert len(run.ranks) == (3 * 2 if "--nproc-per-node 2" in line else 0)
    if "-o runs/" in line:
        assert found[0].parent == tmp_path / "runs"


def test_a_job_that_slurm_restarts_is_noted_and_recorded_beside_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    import seismograd
    from seismograd.distributed.world import num_restarts

    assert num_restarts() == 0
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    assert num_restarts() == 2
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with seismograd.watch(model, optimizer, out=tmp_path / "run", quiet=True):
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
    (note,) = [each for each in open_run(tmp_path / "run").notes if each.kind == "job"]
    assert note.message.render() == "Slurm job 4711, restarts: 2"
    monkeypatch.setenv("SLURM_JOB_ID", "4711; rm -rf /")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "x")
    assert num_restarts() == 0
    with seismograd.watch(model, optimizer, out=tmp_path / "other", quiet=True):
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
    assert not [each for each in open_run(tmp_path / "other").notes if each.kind == "job"]
