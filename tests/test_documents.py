"""The examples of the documents do what they say: each document's blocks of Python are run in
order, as a reader would type them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seismograd.record.reader import open_run
from seismograd.settings.tracker_options import TrackerOption
from seismograd.sinks.tracker import RunStart
from seismograd.sinks.tracker_sink import TrackerSink
from tests.documented_code import code_in
from tests.synthetic import block, finding
from tests.views.samples import small_net


def test_the_examples_of_export_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("pyarrow", "pandas", "polars", "xarray", "duckdb"):
        pytest.importorskip(package)
    small_net(tmp_path / "runs" / "one")
    monkeypatch.chdir(tmp_path)
    blocks = code_in("export.md", "python")
    assert len(blocks) == 5
    names: dict[str, object] = {}
    for each in blocks:
        exec(each, names)
    assert names["largest"].height == 4  # type: ignore[attr-defined]
    assert "fc1.weight" in names["cube"]["parameter"].values  # type: ignore[index]


def test_the_tracker_of_the_document_is_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names: dict[str, Any] = {}
    (block_of_code,) = code_in("trackers.md", "python")
    exec(block_of_code, names)
    monkeypatch.setattr(
        "seismograd.sinks.tracker_sink.make_tracker", lambda option: names["Mine"](option.target)
    )
    run = RunStart("train.py", "2026-01-02T03:04:05Z", "2.13.0", lambda: Path("runs/one"))
    sink = TrackerSink([TrackerOption("mine", "there")], run, lambda _: None)
    sink.observe(block(np.ones((3, 2))))
    sink.finding(finding())
    sink.close()
    said = capsys.readouterr().out
    assert "tracking train.py to there" in said
    assert "SG201" in said
    assert "steps: 3" in said


@pytest.mark.filterwarnings("ignore")  # theirs
def test_the_callbacks_of_the_document_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("torch", "transformers", "accelerate", "lightning"):
        pytest.importorskip(package, exc_type=ImportError)
    trainer, lightning, _ = code_in("integrations.md", "python")
    monkeypatch.chdir(tmp_path)
    names = callback_names()
    for each in (trainer, lightning):
        exec(each, names)
    assert open_run(tmp_path / "runs" / "trainer").num_rows == 3
    assert open_run(tmp_path / "runs" / "lightning").num_rows == 2
    assert (tmp_path / "runs" / "lightning.jsonl").exists()


def test_the_line_for_accelerate_of_the_document_records_and_sends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("torch", "accelerate", "tensorboard"):
        pytest.importorskip(package, exc_type=ImportError)
    import torch

    monkeypatch.chdir(tmp_path)
    net = torch.nn.Linear(4, 1)
    names: dict[str, Any] = {
        "net": net,
        "optimizer": torch.optim.SGD(net.parameters(), lr=0.1),
    }
    exec(code_in("integrations.md", "python")[2], names)
    for _ in range(2):
        names["accelerator"].backward(names["net"](torch.ones(2, 4)).square().mean())
        names["optimizer"].step()
        names["optimizer"].zero_grad()
    names["recording"].close()
    names["accelerator"].end_training()
    assert open_run(tmp_path / "runs" / "accelerate").num_rows == 2
    written = [each.read_bytes() for each in (tmp_path / "logs" / "net").glob("events*")]
    assert any(b"seismograd/grad_norm" in each for each in written)


def callback_names() -> dict[str, Any]:
    """Return what the examples of callbacks take as given."""
    import lightning
    import torch

    class Regression(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 1)

        def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            predicted = self.layer(x).squeeze(1)
            return {"loss": (predicted - labels).square().mean(), "logits": predicted}

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 1)

        def training_step(self, x: torch.Tensor, _: int) -> torch.Tensor:
            return self.layer(x).square().mean()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    samples = [{"x": torch.ones(4), "labels": torch.tensor(1.0)}] * 8
    loader = torch.utils.data.DataLoader(torch.ones(8, 4), batch_size=4)
    return {"model": Regression(), "samples": samples, "module": Module(), "loader": loader}
