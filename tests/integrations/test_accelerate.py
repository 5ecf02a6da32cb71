"""One line after `prepare`: recorded, sent where accelerate's trackers send, and no bit changed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from seismograd.integrations.accelerate import trackers_of, watch
from seismograd.record.reader import open_run

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs


def trained(folder: Path, watched: bool) -> torch.Tensor:
    accelerate = pytest.importorskip("accelerate", exc_type=ImportError)
    torch.manual_seed(0)
    accelerator = accelerate.Accelerator(
        cpu=True, log_with="tensorboard", project_dir=str(folder), gradient_accumulation_steps=2
    )
    accelerator.init_trackers("theirs")
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = torch.utils.data.DataLoader(torch.randn(32, 4), batch_size=4)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    recording = (
        watch(accelerator, model, optimizer, out=folder / "run", quiet=True) if watched else None
    )
    for step, batch in enumerate(loader):
        with accelerator.accumulate(model):
            loss = model(batch).square().mean()
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            optimizer.zero_grad()
        accelerator.log({"theirs": loss.item()}, step=step)
    if recording is not None:
        recording.close()
    accelerator.end_training()
    return torch.cat([each.detach().flatten().clone() for each in model.parameters()])


def test_it_records_sends_and_changes_no_bit(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    alone = trained(tmp_path / "alone", watched=False)
    assert torch.equal(trained(tmp_path / "watched", watched=True), alone)
    run = open_run(tmp_path / "watched" / "run")
    assert run.num_rows == 4
    assert run.steps["num_backwards"].tolist() == [2, 2, 2, 2]
    read = EventAccumulator(str(tmp_path / "watched" / "theirs"))
    read.Reload()
    sent = [each.value for each in read.Scalars("seismograd/grad_norm")]
    np.testing.assert_allclose(sent, run.steps["grad_norm"], rtol=1e-6)
    assert len(read.Scalars("theirs")) == 8


def test_trackers_are_named_as_to_names_them(capsys: pytest.CaptureFixture[str]) -> None:
    def tracker(name: str, **others: Any) -> Any:
        return SimpleNamespace(name=name, **others)

    trackers = [
        tracker("wandb"),
        tracker("tensorboard", writer=SimpleNamespace(log_dir="a:b/logs")),
        tracker("trackio", run=SimpleNamespace(project="theirs")),
        tracker("clearml"),
    ]
    named = trackers_of(SimpleNamespace(trackers=trackers))
    assert named == ["wandb", "tensorboard:a:b/logs", "trackio:theirs"]
    assert "nothing is sent to accelerate's tracker 'clearml'" in capsys.readouterr().err
