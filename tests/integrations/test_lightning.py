"""The callback for Lightning records what `seismograd run` records, and leaves the training
alone.
"""

from __future__ import annotations

import logging
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import seismograd
from seismograd.capture.hub import HUB
from seismograd.record.reader import open_run
from tests.integrations.trained_norms import assert_same_norms

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs


def lightning() -> Any:
    with warnings.catch_warnings(action="ignore"):
        found = pytest.importorskip("lightning", exc_type=ImportError)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return found


def callback(**options: Any) -> Any:
    lightning()
    from seismograd.integrations.lightning import SeismogradCallback

    return SeismogradCallback(quiet=True, **options)


def automatic(fails_at: int = -1) -> Any:
    class Automatic(lightning().LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 3))

        def training_step(self, given: tuple[Tensor, Tensor], index: int) -> Tensor:
            if index == fails_at:
                raise ValueError("the program's own")
            return nn.functional.cross_entropy(self.net(given[0]), given[1])

        def validation_step(self, given: tuple[Tensor, Tensor], _: int) -> Tensor:
            return nn.functional.cross_entropy(self.net(given[0]), given[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=0.01)

    return Automatic


def manual() -> Any:
    class Manual(lightning().LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.maker, self.critic = nn.Linear(4, 4), nn.Linear(4, 1)

        def training_step(self, given: tuple[Tensor, Tensor], _: int) -> None:
            for target, optimizer in enumerate(self.optimizers()):
                self.toggle_optimizer(optimizer)
                loss = (self.critic(self.maker(given[0])) - target).square().mean()
                optimizer.zero_grad()
                self.manual_backward(loss)
                optimizer.step()
                self.untoggle_optimizer(optimizer)

        def configure_optimizers(self) -> list[torch.optim.Optimizer]:
            parts = (self.maker, self.critic)
            return [torch.optim.Adam(part.parameters(), lr=1e-3) for part in parts]

    return Manual


def fitted(made: Any, directory: Path, callbacks: list[Any], **options: Any) -> list[Tensor]:
    lightning().seed_everything(3, verbose=False)
    module = made()
    data = TensorDataset(torch.randn(20, 4), torch.arange(20) % 3)
    trainer = lightning().Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=directory,
        callbacks=callbacks,
        **options,
    )
    loader = DataLoader(data, batch_size=4, shuffle=True)
    validation = DataLoader(data, batch_size=10) if made.__name__ == "Automatic" else None
    trainer.fit(module, loader, validation)
    return list(module.state_dict().values())


@pytest.mark.parametrize("kind", ["automatic", "manual"])
def test_it_records_what_run_records_and_changes_no_bit(kind: str, tmp_path: Path) -> None:
    made = automatic() if kind == "automatic" else manual()
    options: dict[str, Any] = (
        {"accumulate_grad_batches": 2, "gradient_clip_val": 0.1} if kind == "automatic" else {}
    )
    with seismograd.watch(out=tmp_path / "run", quiet=True):  # as `seismograd run` does
        fitted(made, tmp_path, [], **options)
    called = fitted(made, tmp_path, [callback(out=tmp_path / "callback")], **options)
    assert not HUB.listening
    alone = fitted(made, tmp_path, [], **options)
    assert all(map(torch.equal, called, alone))
    ours, theirs = open_run(tmp_path / "callback"), open_run(tmp_path / "run")
    each = 3 if kind == "automatic" else 10
    assert ours.num_rows == theirs.num_rows == 2 * each
    names = ("loss", "grad_norm", "applied_norm", "clip_norm", "lr", "num_backwards", "optimizer")
    for name in names:
        np.testing.assert_array_equal(ours.steps[name], theirs.steps[name], err_msg=name)
    assert_same_norms(ours, theirs)
    assert ours.steps["epoch"].tolist() == [0] * each + [1] * each
    assert len(ours.optimizers) == (1 if kind == "automatic" else 2)
    assert ours.ended


def test_a_training_that_raises_closes_its_record(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the program's own"):
        fitted(automatic(fails_at=3), tmp_path, [callback(out=tmp_path / "run")])
    assert not HUB.listening
    run = open_run(tmp_path / "run")
    assert run.ended
    # Lightning computes the loss within the step, so that the fourth had begun.
    assert np.isfinite(run.steps["loss"]).tolist() == [True] * 3 + [False]
    assert "crashed" in [note.kind for note in run.notes]


def test_where_somebody_records_it_does_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with seismograd.watch(out=tmp_path / "run", quiet=True):
        fitted(automatic(), tmp_path, [callback(out=tmp_path / "callback")])
    assert not (tmp_path / "callback").exists()
    assert capsys.readouterr().err.count("the callback does nothing") == 1


def test_each_callback_has_a_key_of_its_own() -> None:
    one, other = callback(out="one"), callback(out="other")
    assert one.state_key != other.state_key
    assert one.state_key == callback(out="one").state_key
    assert pickle.loads(pickle.dumps(one)).state_key == one.state_key
