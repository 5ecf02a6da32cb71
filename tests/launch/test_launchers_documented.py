"""The lines of docs/launchers.md record what they say, as they are written there."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from seismograd.record.reader import open_run
from tests.documented_code import DOCS, code_in

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
OF_OTHERS = ("srun", "RAY_")  # which have tests of their own
RUNNABLE = [line for line in LINES if not line.startswith(OF_OTHERS)]
MODULES = {
    "torchrun": "torch.distributed.run",
    "accelerate": "accelerate.commands.accelerate_cli",
    "deepspeed": "deepspeed.launcher.runner",
}


def test_every_launcher_has_its_line() -> None:
    assert len(LINES) == 8
    assert len(RUNNABLE) == 6


@pytest.mark.ranks
@pytest.mark.extended
@pytest.mark.parametrize("line", RUNNABLE, ids=lambda line: " ".join(line.split()[:3]))
def test_a_line_records_as_it_is_written(line: str, tmp_path: Path) -> None:
    needed = {
        "accelerate": "accelerate",
        "hydra": "hydra",
        "configured": "hydra",
        "deepspeed": "deepspeed",
    }
    for word, package in needed.items():
        if word in line:
            pytest.importorskip(package, exc_type=ImportError)
    example, _ = code_in("launchers.md", "python")
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
        env={**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"},
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
        is_several = "--nproc-per-node 2" in line or "--num_gpus 2" in line
        assert len(run.ranks) == (3 * 2 if is_several else 0)
    if "-o runs/" in line:
        assert found[0].parent == tmp_path / "runs"


SRUN = """#!{python}
import os, subprocess, sys
words = [word for word in sys.argv[1:]]
num_tasks = int(words.pop(0).removeprefix("--nodes="))
assert words.pop(0) == "--ntasks-per-node=1"
assert words.pop(0) == "torchrun"
started = [
    subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *words],
        env={{**os.environ, "SLURM_PROCID": str(task), "SLURM_NODEID": str(task)}},
    )
    for task in range(num_tasks)
]
sys.exit(max(each.wait() for each in started))
"""
SCONTROL = "#!/bin/sh\n[ \"$*\" = 'show hostnames here' ] && echo 127.0.0.1 && echo there\n"
HEAD = 'HEAD=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -1)'


@pytest.mark.ranks
@pytest.mark.extended
def test_the_line_for_slurm_makes_one_record_of_its_tasks(tmp_path: Path) -> None:
    """With stand-ins for its programs, which start the tasks of two nodes here, and one process
    for each in place of eight.
    """
    (line,) = [line for line in LINES if line.startswith("srun")]
    assert f"`{HEAD}`" in (DOCS / "launchers.md").read_text("utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = line.replace(":29500", f":{port}").replace("--nproc-per-node 8", "--nproc-per-node 1")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("srun", SRUN.format(python=sys.executable)), ("scontrol", SCONTROL)):
        (programs / name).write_text(text, encoding="utf-8")
        (programs / name).chmod(0o755)
    (tmp_path / "train.py").write_text(TRAIN, encoding="utf-8")
    ran = subprocess.run(
        ["sh", "-c", f"{HEAD}\n{line} --steps 3"],
        cwd=tmp_path,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PATH": f"{programs}:{os.environ['PATH']}",
            "SLURM_JOB_ID": "4711",
            "SLURM_JOB_NODELIST": "here",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["4711"]
    run = open_run(tmp_path / "runs" / "4711")
    assert (run.num_rows, run.ended, len(run.ranks)) == (3, True, 3 * 2)
    assert [each.message.render() for each in run.notes if each.kind == "job"] == [
        "Slurm job 4711, restarts: 0"
    ]


@pytest.mark.ranks
@pytest.mark.extended
def test_the_line_for_ray_records_a_script_that_is_not_edited(tmp_path: Path) -> None:
    pytest.importorskip("ray.train", exc_type=ImportError)
    (line,) = [line for line in LINES if line.startswith("RAY_")]
    _, example = code_in("launchers.md", "python")
    (tmp_path / "ray_train.py").write_text(example, encoding="utf-8")
    environment, *words = shlex.split(line)
    name, value = environment.split("=")
    # Its sockets must have short names.
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as of_ray:
        ran = subprocess.run(
            [sys.executable, *words[1:]],
            cwd=tmp_path,
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "RAY_USAGE_STATS_ENABLED": "0",
                "RAY_TMPDIR": of_ray,
                "HOME": str(tmp_path),  # where it keeps results
                name: value,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
    assert ran.returncode == 0, ran.stderr
    (path,) = (tmp_path / "runs").iterdir()
    assert path.name.endswith("-ray_train")
    run = open_run(path)
    assert (run.num_rows, run.ended, len(run.ranks)) == (3, True, 3 * 2)
    assert run.info.script == "ray_train.py"
    assert [each.name for each in run.parameters] == ["weight", "bias"]


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
