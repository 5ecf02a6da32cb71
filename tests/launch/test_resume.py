"""`seismograd run --resume`: an unedited script goes on in the record of its first run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from seismograd import open_run
from seismograd.record.inspection import inspect

pytest.importorskip("torch")

SCRIPT = """
import os, signal, sys, torch
import torch.distributed as dist
width, stop, killed_at = map(int, sys.argv[1:4])
if "RANK" in os.environ:
    dist.init_process_group("gloo")
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.Linear(width, 1))
model = torch.nn.parallel.DistributedDataParallel(net) if "RANK" in os.environ else net
optimizer = torch.optim.Adam(net.parameters(), 1e-3)
first = 0
if os.path.exists("checkpoint.pt"):
    state = torch.load("checkpoint.pt")
    optimizer.load_state_dict(state["optimizer"])
    first = state["step"]
for step in range(first, stop):
    optimizer.zero_grad()
    model(torch.randn(8, 4)).square().mean().backward()
    optimizer.step()
    if step == 29 and os.environ.get("RANK", "0") == "0":
        torch.save({"optimizer": optimizer.state_dict(), "step": 30}, "checkpoint.pt")
    if step == killed_at:
        import time
        time.sleep(2.5)  # what waits is written meanwhile
        os.kill(os.getpid(), signal.SIGKILL)
"""


def seismograd(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "seismograd", "run", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text(SCRIPT, "utf-8")
    return tmp_path


def test_a_script_with_another_model_ends_with_code_2(folder: Path) -> None:
    first = seismograd(folder, "--out", "run", "train.py", "8", "10", "-1")
    assert first.returncode == 0, first.stderr
    refused = seismograd(folder, "--resume", "run", "train.py", "4", "1000000000", "-1")
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert line.startswith("seismograd: ")
    assert "is of another model: 0.weight has another shape in it · nothing was changed" in line
    run = open_run(folder / "run")
    assert (run.num_rows, run.ended, run.branches) == (10, True, ())


@pytest.mark.extended
def test_a_killed_script_goes_on(folder: Path) -> None:
    killed = seismograd(folder, "--out", "run", "train.py", "8", "100", "49")
    assert killed.returncode == -9
    assert 30 < open_run(folder / "run").num_rows <= 50
    again = seismograd(folder, "--resume", "run", "train.py", "8", "100", "-1")
    assert again.returncode == 0, again.stderr
    assert "resumed from step 30" in again.stderr
    run = open_run(folder / "run")
    assert run.steps["iteration"].tolist() == list(range(100))
    assert run.ended
    assert len(run.branches) == 1
    assert inspect(run.path).damage == ()
    (folder / "checkpoint.pt").unlink()
    anew = seismograd(folder, "--resume", "run", "train.py", "8", "20", "-1")
    assert anew.returncode == 0, anew.stderr
    said = " ".join(anew.stderr.split())
    assert "resumed from step 100" in said
    assert "no model and no optimizer loaded a saved state before the first step" in said


@pytest.mark.extended
def test_several_processes_go_on_together(folder: Path) -> None:
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    launcher = (*torchrun, "-m", "seismograd", "run")
    for words in (("--out", "run"), ("--resume", "run")):
        stop = "50" if words[0] == "--out" else "100"
        command = [sys.executable, *launcher, *words, "train.py", "8", stop, "-1"]
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=200, check=False
        )
        assert done.returncode == 0, done.stderr
    run = open_run(folder / "run")
    assert run.steps["iteration"].tolist() == list(range(100))
    assert run.ranks["iteration"].tolist() == [step for step in range(100) for _ in range(2)]
    assert len(run.branches) == 1
    assert not (folder / "run-process-2").exists()


HALTING = """
import sys, torch
net = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(net.parameters(), 1e-3)
optimizer.load_state_dict(optimizer.state_dict())
for step in range(30):
    weights = net.weight.detach().clone(), net.bias.detach().clone()
    optimizer.zero_grad()
    loss = net(torch.randn(8, 4)).square().mean()
    (loss * float("nan") if step == int(sys.argv[1]) else loss).backward()
    optimizer.step()
    with torch.no_grad():
        if step == int(sys.argv[1]):
            for mine, kept in zip((net.weight, net.bias), weights): mine.copy_(kept)
"""


@pytest.mark.extended
def test_only_what_is_found_from_here_on_changes_the_exit_code(folder: Path) -> None:
    (folder / "train.py").write_text(HALTING, "utf-8")
    assert seismograd(folder, "--out", "run", "train.py", "12").returncode == 0
    halting = ("--resume", "run", "--halt-on", "SG201", "train.py")
    healthy = seismograd(folder, *halting, "-1")
    assert healthy.returncode == 0, healthy.stderr
    assert "found before the training was resumed: SG201" in " ".join(healthy.stderr.split())
    assert open_run(folder / "run").num_rows == 60
    halted = seismograd(folder, *halting, "5")
    assert halted.returncode == 1, halted.stderr
    assert open_run(folder / "run").num_rows == 66
