"""The examples of the documents do what they say: each document's blocks of Python are run in
order, as a reader would type them.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seismograd.record.reader import open_run
from seismograd.settings.tracker_options import TrackerOption
from seismograd.sinks.tracker import RunStart
from seismograd.sinks.tracker_sink import TrackerSink
from tests.synthetic import block, finding
from tests.views.samples import small_net

DOCS = Path(__file__).parent.parent / "docs"


def python_blocks(document: str) -> list[str]:
    text = (DOCS / document).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def test_the_examples_of_export_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("pyarrow", "pandas", "polars", "xarray", "duckdb"):
        pytest.importorskip(package)
    small_net(tmp_path / "runs" / "one")
    monkeypatch.chdir(tmp_path)
    blocks = python_blocks("export.md")
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
    (block_of_code,) = python_blocks("trackers.md")
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
    trainer, lightning, accelerate = python_blocks("integrations.md")
    monkeypatch.chdir(tmp_path)
    names = callback_names()
    for each in (trainer, lightning):
        exec(each, names)
    if importlib.util.find_spec("tensorboard") is not None:
        exec(accelerate, names)
        names["recording"].close()
        names["accelerator"].end_training()
    assert open_run(tmp_path / "runs" / "trainer").num_rows == 3
    assert open_run(tmp_path / "runs" / "lightning").num_rows == 2
    assert (tmp_path / "runs" / "lightning.jsonl").exists()


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
    net = torch.nn.Linear(4, 1)
    return {
        "model": Regression(),
        "samples": samples,
        "module": Module(),
        "loader": loader,
        "net": net,
        "optimizer": torch.optim.SGD(net.parameters(), lr=0.1),
    }
