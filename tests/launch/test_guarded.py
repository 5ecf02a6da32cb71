"""`seismograd run --guard`, and what the other commands say of such a run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for step in range(20):
    optimizer.zero_grad()
    loss = model(torch.randn(8, 4)).square().mean()
    if step == 7:
        loss = loss + 0 * torch.sqrt(0 * model.weight.sum())
    loss.backward()
    optimizer.step()
print(bool(model.weight.isfinite().all()))
"""


def command(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "seismograd", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """The folder of a run that was guarded, and what it printed."""
    tmp_path = tmp_path_factory.mktemp("guarded")
    (tmp_path / "train.py").write_text(SCRIPT)
    ended = command(tmp_path, "run", "--guard", "--out", "runs/one", "train.py")
    assert ended.returncode == 0, ended.stderr
    return tmp_path, ended.stdout, ended.stderr


def test_the_weights_stay_finite_and_the_end_says_what_was_left_out(
    guarded: tuple[Path, str, str],
) -> None:
    _, out, err = guarded
    assert out == "True\n"
    assert "the guard left out 1 of 20 updates, at step 7" in err
    assert "step 7: the gradients were not finite: `sqrt` at train.py:12" in err


def test_check_show_and_runs_say_it_as_well(guarded: tuple[Path, str, str]) -> None:
    tmp_path = guarded[0]
    checked = command(tmp_path, "check", "runs/one")
    assert checked.returncode == 1
    assert "SG201" in checked.stdout
    assert "the guard left out 1 of 20 updates" in checked.stdout + checked.stderr
    as_json = command(tmp_path, "check", "runs/one", "--format", "json")
    assert json.loads(as_json.stdout)["guarded"] == 1
    shown = command(tmp_path, "show", "runs/one", "--step", "7")
    assert "The guard left out an update of this step." in shown.stdout
    assert "GradScaler" not in shown.stdout
    assert json.loads(command(tmp_path, "runs", "--format", "json").stdout)[0]["guarded"] == 1
    assert "updates left out: 1" in " ".join(command(tmp_path, "runs").stdout.split())
