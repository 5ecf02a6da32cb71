"""`--halt-on`: the training ends at the finding, before the bad update where the rule knows it
in time, and nothing of it is lost.
"""

from __future__ import annotations

import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import nn

import seismograd
from seismograd.errors import TrainingHalted
from seismograd.i18n import say
from seismograd.schema import Finding

BROKEN_AT = 5


def train(tmp_path: Path, *, halt_on: tuple[str, ...], broken: bool = True) -> list[torch.Tensor]:
    """A regression whose gradient is NaN from a step on; its weights after each step."""
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    weights: list[torch.Tensor] = []
    with seismograd.watch(model, optimizer, out=tmp_path / "run", halt_on=halt_on):
        for step in range(12):
            optimizer.zero_grad()
            loss = model(torch.full((8, 4), 0.1)).square().mean()
            if broken and step >= BROKEN_AT:
                loss = loss + 0 * torch.sqrt(0 * model.weight.sum())
            loss.backward()
            optimizer.step()
            weights.append(model.weight.detach().clone())
    return weights


def test_a_gradient_that_is_not_finite_never_reaches_the_weights(tmp_path: Path) -> None:
    with pytest.raises(TrainingHalted) as halted:
        train(tmp_path, halt_on=("error",))
    assert halted.value.code == "SG201"
    run = seismograd.open_run(tmp_path / "run")
    assert [finding.code for finding in run.findings] == ["SG201"]
    assert run.findings[0].first_step == BROKEN_AT
    assert len(run.steps) == BROKEN_AT + 1
    assert [note.kind for note in run.notes] == ["halted"]
    assert halted.value.snapshot is not None

    from safetensors.torch import load_file

    kept = load_file(halted.value.snapshot)
    assert set(kept) == {"weight", "bias"}
    assert kept["weight"].isnan().all()
    assert kept["bias"].isfinite().all()


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, *inputs: float) -> None:
    for value in inputs:
        optimizer.zero_grad()
        model(torch.full((8, 4), value)).square().mean().backward()
        optimizer.step()


def test_every_thread_that_trains_is_stopped(tmp_path: Path) -> None:
    sound, broken = nn.Linear(4, 1), nn.Linear(4, 1)
    first, second = (torch.optim.SGD(model.parameters(), lr=0.01) for model in (broken, sound))
    with (
        seismograd.watch(sound, broken, first, second, out=tmp_path / "run", halt_on=["error"]),
        ThreadPoolExecutor(1) as thread,
    ):
        with pytest.raises(TrainingHalted) as halted:
            steps(broken, first, 1.0, math.nan)
        with pytest.raises(TrainingHalted) as elsewhere:
            thread.submit(steps, sound, second, 1.0).result(60)
    assert elsewhere.value is halted.value
    assert all(p.isfinite().all() for p in (*sound.parameters(), *broken.parameters()))


def test_halting_changes_nothing_in_a_healthy_training(tmp_path: Path) -> None:
    ready, plain = (
        train(tmp_path / name, halt_on=halt_on, broken=False)
        for name, halt_on in (("a", ("error",)), ("b", ()))
    )
    assert len(ready) == len(plain) == 12
    assert all(torch.equal(one, other) for one, other in zip(ready, plain, strict=True))


def test_looking_ahead_is_counted_as_watching(tmp_path: Path) -> None:
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with seismograd.watch(model, optimizer, out=tmp_path / "run", halt_on=("error",)) as recording:
        model(torch.ones(2, 4)).mean().backward()
        optimizer.step()
        brake = recording._halter
        assert brake is not None
        assert brake.take_overhead() > 0
        assert brake.take_overhead() == 0


def test_only_the_rules_that_were_named_stop_a_training(tmp_path: Path) -> None:
    assert len(train(tmp_path, halt_on=("SG301",))) == 12


def test_a_finding_of_earlier_steps_names_the_update_that_it_stops(tmp_path: Path) -> None:
    """The rules may have looked between the backward and the step of a later iteration."""
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with seismograd.watch(model, optimizer, out=tmp_path / "run", halt_on=("SG307",)) as recording:
        brake = recording._halter
        assert brake is not None
        for step in range(6):
            optimizer.zero_grad()
            model(torch.ones(2, 4)).mean().backward()
            if step < 5:
                optimizer.step()
        brake.take(
            Finding(
                "SG307",
                "accumulation-not-scaled",
                "warning",
                0,
                0,
                3,
                (),
                (),
                say("why"),
                say("change"),
            )
        )
        with pytest.raises(TrainingHalted, match="before the update of step 5: SG307") as halted:
            optimizer.step()
    snapshot = halted.value.snapshot
    assert snapshot is not None
    assert snapshot == tmp_path / "run" / "snapshots" / "step-00000005.safetensors"
    assert snapshot.is_file()


SCRIPT = """
import sys
import torch
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for step in range(9):
    try:
        optimizer.zero_grad()
        loss = model(torch.ones(2, 4)).square().mean()
        (loss if step < 3 else loss + 0 * torch.sqrt(0 * model.weight.sum())).backward()
        optimizer.step()
    except Exception:
        print("swallowed")
    print("step", step, flush=True)
print("end")
"""


def test_run_stops_the_script_with_1_and_says_why_and_where(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    command = [
        sys.executable,
        "-m",
        "seismograd",
        "run",
        "--out",
        "it",
        "--halt-on",
        "nonfinite-gradient",
        "train.py",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 1, done.stderr
    assert done.stdout.split() == ["step", "0", "step", "1", "step", "2"]
    last = done.stderr.strip().splitlines()[-1]
    assert "stopped before the update of step 3: SG201 nonfinite-gradient" in last
    assert " ".join(done.stderr.split()).count("training was stopped") == 1
    assert "step-00000003.safetensors" in last
    assert "Traceback" not in done.stderr
    assert (tmp_path / "it" / "snapshots" / "step-00000003.safetensors").is_file()


def test_a_training_that_ended_before_the_rules_had_looked_exits_with_1_as_well(
    tmp_path: Path,
) -> None:
    (tmp_path / "train.py").write_text(
        SCRIPT.replace("optimizer.zero_grad()", "pass").replace("step < 3", "True")
    )
    for halting, code in ((["--halt-on", "missing-zero-grad"], 1), ([], 0)):
        command = [
            sys.executable,
            "-m",
            "seismograd",
            "run",
            "--out",
            f"it{code}",
            *halting,
            "train.py",
        ]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, encoding="utf-8", check=False
        )
        assert done.returncode == code, done.stderr


def test_a_rule_that_does_not_exist_is_refused_before_the_script_runs(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("print('ran')")
    command = [sys.executable, "-m", "seismograd", "run", "--halt-on", "SG777", "train.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "runs").exists()
