"""Watching changes nothing: not a bit of the losses, weights, optimizer state and random state.
And what it recorded is what happened.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import seismograd
from seismograd.diagnosis.whole_record import diagnose
from tests.launch.programs import PROGRAMS, STEPS

FILLS_THE_DISK = """
import os, resource, signal, sys, torch
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
model = torch.nn.Linear(200, 200)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
def train(steps):
    for step in range(steps):
        optimizer.zero_grad()
        model(torch.ones(1, 200)).square().mean().backward()
        optimizer.step()
record = sys.argv[1]
train(10)
while os.path.isdir(record) and not (os.path.isfile(record + "/steps.bin") and os.path.getsize(record + "/steps.bin") > 4000):
    train(10)
full = max((e.stat().st_size for e in os.scandir(record)), default=0) if os.path.isdir(record) else 0
resource.setrlimit(resource.RLIMIT_FSIZE, (full + 1000, full + 1000))
train(2000)
print("trained")
"""

# Registered before seismograd is imported, so called after its summary.
STATES_AT_THE_END = """
import atexit, hashlib, os, random, sys
def states():
    numpy, torch = sys.modules["numpy"], sys.modules["torch"]
    given = (
        repr(random.getstate()).encode(),
        numpy.random.get_state()[1].tobytes(),
        torch.get_rng_state().numpy().tobytes(),
    )
    return [hashlib.md5(each).hexdigest() for each in given]
if os.environ.get("PRINTS_STATES"):
    atexit.register(lambda: os.write(1, f"last {states()}\\n".encode()))
"""
DRAWS = """
import random, numpy, torch
random.seed(0), numpy.random.seed(0), torch.manual_seed(0)
model = torch.nn.Linear(20, 3)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
for step in range(20):
    optimizer.zero_grad()
    model(torch.randn(8, 20)).square().mean().backward()
    optimizer.step()
"""

HERE = Path(__file__).parent
EACH_TIME = ("small_net",)
SMALL_NET = HERE.parents[1] / "examples" / "small_net.py"


def python(*words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, words)], check=check, capture_output=True, text=True, timeout=300
    )


def seismograd_run(
    out: Path, *words: object, check: bool = True
) -> subprocess.CompletedProcess[str]:
    return python("-m", "seismograd", "run", "--quiet", "--out", out, *words, check=check)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in EACH_TIME else pytest.mark.extended)
        for name in PROGRAMS
    ],
)
def test_a_program_gives_the_same_bits_watched_or_not(name: str, tmp_path: Path) -> None:
    script = HERE / "programs.py"
    bare = python(script, name)
    by_run = seismograd_run(tmp_path / "run", script, name)
    by_watch = python(script, name, "--watch", tmp_path / "watch")
    assert by_run.stdout == bare.stdout
    assert by_watch.stdout == bare.stdout
    for way in ("run", "watch"):
        run = seismograd.open_run(tmp_path / way)
        assert len(run.steps) == STEPS
        losses = [float.fromhex(line.split()[1]) for line in bare.stdout.splitlines()[:STEPS]]
        np.testing.assert_array_equal(run.steps["loss"], losses)
        assert not [note for note in run.notes if note.kind == "failure"]
        live, offline = (
            run.findings,
            diagnose(run.blocks(), notes=run.notes, samples=run.sampled).findings(),
        )
        assert live == offline


def test_what_is_recorded_can_be_shown_as_the_need_was_written(tmp_path: Path) -> None:
    seismograd_run(
        tmp_path / "run",
        "--element",
        "fc1.weight[0,400]",
        "--element",
        "fc2.bias[3]",
        SMALL_NET,
        "--epochs",
        1,
    )
    run = seismograd.open_run(tmp_path / "run")
    assert [p.name for p in run.parameters] == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]
    assert [p.numel for p in run.parameters] == [200_704, 256, 2560, 10]
    lines = python(
        "-m",
        "seismograd",
        "show",
        tmp_path / "run",
        "--step",
        0,
        "--lang",
        "zh",
        "--format",
        "plain",
    ).stdout.splitlines()
    expected = ["--- Epoch 0 Gradients ---"]
    for parameter, norm in zip(run.parameters, run.series("grad_norm")[0], strict=True):
        shape = f"torch.Size([{', '.join(map(str, parameter.shape))}])"
        expected.append(
            f"参数: {parameter.name:<20} | 梯度形状: {shape:<15} | 梯度范数: {norm:.6f}"
        )
    expected.append(f"epoch 0, loss={run.steps['loss'][0]:.4f}")
    assert lines == expected
    names, values = run.elements
    assert tuple(names) == ("fc1.weight[0,400]", "fc2.bias[3]")
    assert np.isfinite(values).all()
    assert np.abs(values[:, 1]).max() > 0
    shown = python(
        "-m",
        "seismograd",
        "show",
        tmp_path / "run",
        "--element",
        "fc2.bias[3]",
        "--format",
        "plain",
    ).stdout
    assert f"{values[0, 1]:.6g}" in shown


def test_a_killed_run_reads_back_and_can_be_judged(tmp_path: Path) -> None:
    script = tmp_path / "endless.py"
    script.write_text(
        "import torch, itertools\nmodel = torch.nn.Linear(4, 2)\noptimizer = "
        "torch.optim.SGD(model.parameters(), lr=0.1)\n"
        "for step in itertools.count():\n    optimizer.zero_grad()\n    model(torch.ones(3, "
        "4)).square().mean().backward()\n"
        "    optimizer.step()\n    if step % 1000 == 0:\n        print(step, flush=True)\n"
    )
    command = [
        sys.executable,
        "-m",
        "seismograd",
        "run",
        "--out",
        str(tmp_path / "run"),
        str(script),
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        steps = tmp_path / "run" / "steps.bin"
        while not (steps.is_file() and steps.stat().st_size):
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL
    run = seismograd.open_run(tmp_path / "run")
    assert not run.ended
    assert list(run.steps["iteration"]) == list(range(len(run.steps)))
    assert np.isfinite(run.series("grad_norm")).all()
    checked = python("-m", "seismograd", "check", tmp_path / "run", "--format", "json")
    assert json.loads(checked.stdout)["findings"] == []


def test_a_full_disk_ends_the_record_and_not_the_training(tmp_path: Path) -> None:
    script = tmp_path / "fills.py"
    script.write_text(FILLS_THE_DISK)
    bare = python(script, tmp_path / "run")
    ours = python("-m", "seismograd", "run", "--out", tmp_path / "run", script, tmp_path / "run")
    assert ours.stdout == bare.stdout
    assert ours.returncode == 0
    run = seismograd.open_run(tmp_path / "run")
    assert len(run.steps) >= 10
    assert np.isfinite(run.series("grad_norm")).all()
    assert "Writer" in ours.stderr, "it says what was left out"


@pytest.mark.extended  # test_how_it_ended.py has one more that does not
def test_an_element_that_does_not_exist_is_said_and_the_run_goes_on(tmp_path: Path) -> None:
    ran = python(
        "-m",
        "seismograd",
        "run",
        "--out",
        tmp_path / "run",
        "--element",
        "fc1.weight[300,0]",
        SMALL_NET,
        "--epochs",
        1,
    )
    assert ran.returncode == 0
    assert "fc1.weight[300,0]" in ran.stderr
    run = seismograd.open_run(tmp_path / "run")
    assert np.isnan(run.elements[1]).all()


def test_the_summary_draws_no_random_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not those of Python, NumPy or torch: what runs after it finds the states as without us."""
    (tmp_path / "sitecustomize.py").write_text(STATES_AT_THE_END)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PRINTS_STATES", "1")
    script = tmp_path / "draws.py"
    script.write_text(DRAWS)
    bare = python(script)
    watched = python("-m", "seismograd", "run", "--out", tmp_path / "run", script)
    assert "steps: 20" in watched.stderr
    assert bare.stdout.startswith("last ")
    assert watched.stdout == bare.stdout
