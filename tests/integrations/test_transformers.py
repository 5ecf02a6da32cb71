"""The callback for Trainer records what `seismograd run` records, and leaves the training alone."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import seismograd
from seismograd.capture.hub import HUB
from seismograd.record.reader import open_run
from tests.integrations.trained_norms import assert_same_norms

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs

STEPS = 6  # of two epochs: the second window of three steps in each is short


class Classifier(nn.Module):
    def __init__(self, fails_at: int = -1) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 3))
        self.calls, self.fails_at = 0, fails_at

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        self.calls += 1
        if self.calls == self.fails_at:
            raise ValueError("the program's own")
        logits = self.net(x)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def callback(**options: Any) -> Any:
    with warnings.catch_warnings(action="ignore"):
        pytest.importorskip("transformers", exc_type=ImportError)
        pytest.importorskip("accelerate", exc_type=ImportError)
        from seismograd.integrations.transformers import SeismogradCallback
    return SeismogradCallback(quiet=True, **options)


def trainer(directory: Path, callbacks: list[Any], fails_at: int = -1, **options: Any) -> Any:
    transformers = pytest.importorskip("transformers", exc_type=ImportError)
    pytest.importorskip("accelerate", exc_type=ImportError)
    transformers.set_seed(3)
    model = Classifier(fails_at)
    x = torch.randn(20, 4)
    arguments = {
        "output_dir": str(directory / "out"),
        "num_train_epochs": 2,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "max_grad_norm": 0.1,
        "learning_rate": 1e-2,
        "eval_strategy": "epoch",
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
    }
    rows = [{"x": each, "labels": torch.tensor(index % 3)} for index, each in enumerate(x)]
    made = transformers.Trainer(
        model=model,
        args=transformers.TrainingArguments(**{**arguments, **options}),
        train_dataset=rows,
        eval_dataset=rows[:4],
        callbacks=callbacks,
    )
    made.remove_callback(transformers.PrinterCallback)
    return made


def weights(made: Any) -> list[Tensor]:
    return list(made.model.state_dict().values())


def test_it_records_what_run_records_and_changes_no_bit(tmp_path: Path) -> None:
    whole = trainer(tmp_path, [])
    with seismograd.watch(out=tmp_path / "run", quiet=True):  # as `seismograd run` does
        whole.train()
    called = trainer(tmp_path, [callback(out=tmp_path / "callback")])
    called.train()
    assert not HUB.listening
    alone = trainer(tmp_path, [])
    alone.train()
    assert all(map(torch.equal, weights(called), weights(alone)))
    ours, theirs = open_run(tmp_path / "callback"), open_run(tmp_path / "run")
    assert ours.num_rows == theirs.num_rows == STEPS
    for name in ("loss", "grad_norm", "applied_norm", "clip_norm", "lr", "num_backwards"):
        np.testing.assert_array_equal(ours.steps[name], theirs.steps[name], err_msg=name)
    assert_same_norms(ours, theirs)
    assert ours.steps["epoch"].tolist() == [0, 0, 0, 1, 1, 1]
    assert (ours.steps["applied_norm"] < ours.steps["grad_norm"]).all()
    assert ours.ended
    assert [note.kind for note in ours.notes] == [note.kind for note in theirs.notes]


def test_a_training_that_raises_closes_its_record(tmp_path: Path) -> None:
    failing = trainer(tmp_path, [callback(out=tmp_path / "run")], fails_at=5)
    with pytest.raises(ValueError, match="the program's own"):
        failing.train()
    assert not HUB.listening
    run = open_run(tmp_path / "run")
    assert run.ended
    assert run.num_rows == 2
    assert "crashed" in [note.kind for note in run.notes]


def test_the_second_training_is_recorded_beside_the_first_from_its_step(tmp_path: Path) -> None:
    options = {"save_strategy": "epoch", "num_train_epochs": 1}
    first = trainer(tmp_path, [callback(out=tmp_path / "run")], **options)
    first.train()
    first.args.num_train_epochs = 2
    first.train(resume_from_checkpoint=True)
    again = open_run(tmp_path / "run-2")
    assert again.steps["epoch"].tolist() == [1, 1, 1]
    (note,) = [each for each in again.notes if each.kind == "resumed"]
    assert "step 0 of this record is global step 3 of Trainer" in note.message.render()


def test_where_somebody_records_it_does_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = trainer(tmp_path, [callback(out=tmp_path / "callback")])
    with seismograd.watch(out=tmp_path / "run", quiet=True):
        made.train()
        assert HUB.listening
    assert open_run(tmp_path / "run").num_rows == STEPS
    assert not (tmp_path / "callback").exists()
    assert capsys.readouterr().err.count("the callback does nothing") == 1


def test_what_cannot_be_written_is_a_line_and_no_exception(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "theirs").write_text("", encoding="utf-8")
    made = trainer(tmp_path, [callback(out=tmp_path / "full")])
    made.train()
    assert made.state.global_step == STEPS
    assert "the training is not recorded" in capsys.readouterr().err
    assert not HUB.listening


def test_wrong_options_are_refused_before_the_training() -> None:
    with pytest.raises(seismograd.SeismogradError):
        callback(level="heigh")
    with pytest.raises(TypeError, match="levl"):
        callback(levl="light")
