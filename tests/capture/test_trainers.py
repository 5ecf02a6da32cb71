"""Frameworks that call backward from within the step: what they clip and accumulate is of the
right step.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import seismograd
from seismograd.diagnosis.whole_record import diagnose
from seismograd.record.reader import Run, open_run
from tests.capture.watched import watched

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs


def points(num: int = 80) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(num, 8, generator=generator), torch.randint(
        0, 3, (num,), generator=generator
    )


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))


def lightning() -> Any:
    with warnings.catch_warnings(action="ignore"):
        found = pytest.importorskip("lightning", exc_type=ImportError)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return found


def fitted(module: Any, path: Path, batches: int, **options: Any) -> Run:
    x, y = points(8 * batches)
    trainer = lightning().Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=path.parent,
        **options,
    )
    with seismograd.watch(module, out=path):
        trainer.fit(module, DataLoader(TensorDataset(x, y), batch_size=8))
    return open_run(path)


def test_the_clip_and_the_short_windows_of_lightning(tmp_path: Path) -> None:
    base = lightning().LightningModule

    class Automatic(base):  # type: ignore[misc,valid-type]
        def __init__(self) -> None:
            super().__init__()
            self.net = net()

        def training_step(self, given: tuple[Tensor, Tensor], _: int) -> Tensor:
            return nn.functional.cross_entropy(self.net(given[0]), given[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    options = {"accumulate_grad_batches": 3, "gradient_clip_val": 1e-3, "max_epochs": 10}
    run = fitted(Automatic(), tmp_path / "run", 10, **options)
    assert run.steps["num_backwards"].tolist() == [3, 3, 3, 1] * 10
    np.testing.assert_allclose(run.steps["clip_limit"], 1e-3)
    assert (run.steps["grad_norm"] > 0.01).all()
    np.testing.assert_allclose(run.steps["applied_norm"], 1e-3, rtol=1e-3)
    np.testing.assert_allclose(run.steps["clip_norm"], run.steps["grad_norm"], rtol=1e-5)
    found = {each.code: each for each in diagnose(run.blocks(64), notes=run.notes).findings()}
    assert {"SG308", "SG501"} <= found.keys()
    short = found["SG308"]
    assert (short.severity, short.excerpt) == ("info", "")
    assert "be a multiple of 3" in short.advice.render()


def test_two_optimizers_that_lightning_steps_by_hand(tmp_path: Path) -> None:
    base = lightning().LightningModule

    class Manual(base):  # type: ignore[misc,valid-type]
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.maker, self.critic = nn.Linear(8, 8), nn.Linear(8, 1)
            self.losses: list[float] = []

        def training_step(self, given: tuple[Tensor, Tensor], _: int) -> None:
            for number, optimizer in enumerate(self.optimizers()):
                self.toggle_optimizer(optimizer)
                made = self.maker(given[0])
                loss = (
                    self.critic(made).square().mean()
                    if number
                    else (self.critic(made) - 1).square().mean()
                )
                optimizer.zero_grad()
                self.manual_backward(loss)
                self.losses.append(loss.item())
                optimizer.step()
                self.untoggle_optimizer(optimizer)

        def configure_optimizers(self) -> list[torch.optim.Optimizer]:
            return [
                torch.optim.Adam(part.parameters(), lr=1e-3) for part in (self.maker, self.critic)
            ]

    module = Manual()
    run = fitted(module, tmp_path / "run", 6, max_epochs=2)
    np.testing.assert_allclose(run.steps["loss"], module.losses, rtol=1e-6)
    assert run.steps["num_backwards"].tolist() == [1] * 24
    assert [note for note in run.notes if note.kind == "tail"] == []


GRID_SEARCH = """
import json
import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import GradientNormClipping
from sklearn.model_selection import GridSearchCV

losses = []


class Counted(NeuralNetClassifier):
    def train_step(self, *given, **more):
        step = super().train_step(*given, **more)
        losses.append(step["loss"].item())
        return step


torch.manual_seed(0)
x, y = torch.randn(80, 8).numpy(), torch.randint(0, 3, (80,)).numpy()
module = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
clip = ("clip", GradientNormClipping(1e-3))
options = {"max_epochs": 2, "batch_size": 16, "train_split": None, "verbose": 0}
net = Counted(module, criterion=torch.nn.CrossEntropyLoss, callbacks=[clip], **options)
GridSearchCV(net, {"lr": [0.01, 0.1]}, cv=2, refit=True).fit(x, y)
print("losses", json.dumps(losses))
"""


@pytest.mark.extended
def test_the_clip_of_skorch_and_each_step_of_a_grid_search(tmp_path: Path) -> None:
    pytest.importorskip("skorch", exc_type=ImportError)
    pytest.importorskip("sklearn")
    (tmp_path / "search.py").write_text(GRID_SEARCH, encoding="utf8")
    command = [sys.executable, "-m", "seismograd", "run", "--out", "record", "search.py"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    losses = json.loads(
        next(line for line in done.stdout.splitlines() if line.startswith("losses")).removeprefix(
            "losses"
        )
    )
    run = open_run(tmp_path / "record")
    np.testing.assert_allclose(run.steps["loss"], losses, rtol=1e-6)
    np.testing.assert_allclose(run.steps["clip_limit"], 1e-3)
    np.testing.assert_allclose(run.steps["applied_norm"], 1e-3, rtol=1e-2)


def test_the_optimizer_of_fastai() -> None:
    fastai = pytest.importorskip("fastai.optimizer", exc_type=ImportError)
    model = net()
    x, y = points(16)
    with watched() as kept:
        optimizer = fastai.SGD(list(model.parameters()), lr=0.1)
        for step in range(4):
            optimizer.set_hyper("lr", 0.1 / (1 + step))
            nn.functional.cross_entropy(model(x), y).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
            optimizer.step()
            optimizer.zero_grad()
    assert [float(row.step["lr"]) for row in kept.rows] == pytest.approx(
        [0.1, 0.05, 0.1 / 3, 0.025]
    )
    assert [float(row.step["applied_norm"]) for row in kept.rows] == pytest.approx(
        [1e-3] * 4, rel=1e-2
    )
    assert "by hand" not in {optimizer.name for optimizer in kept.session.optimizers}


def test_the_optimizer_that_accelerate_has_wrapped(tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate", exc_type=ImportError)
    model = net()
    accelerator = accelerate.Accelerator(cpu=True)
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
    x, y = points(16)
    losses = list[float]()
    with seismograd.watch(model, optimizer, out=tmp_path / "run", quiet=True):
        for _ in range(3):
            loss = nn.functional.cross_entropy(model(x), y)
            accelerator.backward(loss)
            losses.append(loss.item())
            optimizer.step()
            optimizer.zero_grad()
    run = open_run(tmp_path / "run")
    assert [each.kind for each in run.optimizers] == ["SGD"]
    np.testing.assert_allclose(run.steps["loss"], losses, rtol=1e-6)
    assert run.steps["num_backwards"].tolist() == [1, 1, 1]
