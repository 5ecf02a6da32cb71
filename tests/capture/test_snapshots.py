"""`snapshot=`: whole gradients, weights and batches of chosen moments, and the training as it is
without.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import seismograd
from seismograd.errors import SeismogradError, TrainingHalted
from seismograd.record.snapshot_reader import Snapshot
from seismograd.settings.snapshot_plan import SnapshotPlan, parse_snapshots
from tests.capture.test_guard import batches, make, same, undefined

BAD = 20


class Trained:
    """What a training did: the gradients, the weights before each update, and the inputs."""

    def __init__(self) -> None:
        self.gradients: list[dict[str, torch.Tensor]] = []
        self.weights: list[dict[str, torch.Tensor]] = []
        self.inputs: list[torch.Tensor] = []

    def run(self, model: nn.Module, optimizer: Any, *, poisoned: bool = False) -> None:
        for step, x in enumerate(batches()):
            optimizer.zero_grad()
            loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
            (undefined(step, loss, model) if poisoned else loss).backward()
            self.inputs.append(x)
            self.gradients.append(
                {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
            )
            self.weights.append({n: p.detach().clone() for n, p in model.named_parameters()})
            optimizer.step()


def of(run: seismograd.Run, content: str) -> list[Snapshot]:
    return [each for each in run.snapshots() if each.content == content]


def test_every_so_many_steps_the_gradients_are_kept_whole(tmp_path: Path) -> None:
    model, optimizer = make(torch.optim.Adam, lr=0.01)
    trained = Trained()
    with seismograd.watch(
        model, optimizer, out=tmp_path / "run", snapshot=["every=10", "step=3"], quiet=True
    ):
        trained.run(model, optimizer)
    run = seismograd.open_run(tmp_path / "run")
    assert [(s.step, s.reason) for s in run.snapshots()] == [
        (0, "every"),
        (3, "step"),
        (10, "every"),
        (20, "every"),
    ]
    for each in run.snapshots():
        assert set(each.tensors) == {"0.weight", "0.bias", "2.weight", "2.bias"}
        for name, gradient in trained.gradients[each.step].items():
            np.testing.assert_array_equal(each[name], gradient.numpy())
            np.testing.assert_array_equal(run.kept_gradient(each.step, name), gradient.numpy())
    assert not [t for t in threading.enumerate() if t.name == "seismograd-snapshots"]


def test_the_training_has_the_same_bits(tmp_path: Path) -> None:
    plain, watched = Trained(), Trained()
    plain.run(*make(torch.optim.Adam, lr=0.01))
    model, optimizer = make(torch.optim.Adam, lr=0.01)
    with seismograd.watch(
        model, optimizer, out=tmp_path / "run", snapshot=["every=1,weights,batch"], quiet=True
    ):
        watched.run(model, optimizer)
    assert same(
        [list(each.values()) for each in watched.weights],
        [list(each.values()) for each in plain.weights],
    )


def test_weights_are_those_before_the_update(tmp_path: Path) -> None:
    model, optimizer = make(torch.optim.SGD, lr=0.1)
    trained = Trained()
    with seismograd.watch(
        model, optimizer, out=tmp_path / "run", snapshot="step=5,weights", quiet=True
    ):
        trained.run(model, optimizer)
    (weights,) = of(seismograd.open_run(tmp_path / "run"), "weights")
    assert weights.step == 5
    for name, weight in trained.weights[5].items():
        np.testing.assert_array_equal(weights[name], weight.numpy())


def test_of_the_regular_ones_the_newest_stay(tmp_path: Path) -> None:
    model, optimizer = make(torch.optim.SGD, lr=0.1)
    with seismograd.watch(
        model, optimizer, out=tmp_path / "run", snapshot="every=1,keep=3,step=2", quiet=True
    ) as recording:
        for x in batches(12):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
            files = recording._snapshot_files
            assert files is not None
            while files._num_waiting:
                pass
    steps = [each.step for each in seismograd.open_run(tmp_path / "run").snapshots()]
    assert steps == [2, 9, 10, 11]


def test_what_does_not_fit_is_left_out_and_said(tmp_path: Path) -> None:
    model, optimizer = make(torch.optim.SGD, lr=0.1)
    steps = ",".join(f"step={step}" for step in range(30))
    with seismograd.watch(model, optimizer, out=tmp_path / "run", snapshot=steps, quiet=True):
        Trained().run(model, optimizer)
    run = seismograd.open_run(tmp_path / "run")
    assert 0 < len(run.snapshots()) <= 16
    (note,) = [note for note in run.notes if note.kind == "snapshots"]
    assert str(30 - len(run.snapshots())) in note.message.render()


def test_a_size_above_the_limit_is_not_copied(tmp_path: Path) -> None:
    from seismograd.capture.snapshots.snapshot_files import SnapshotFiles

    files = SnapshotFiles(SnapshotPlan(every=1, max_bytes=100), lambda: tmp_path, lambda _: None)
    assert files.has_room("every", 100)
    assert not files.has_room("every", 101)
    assert files.num_left_out == 1


def test_at_a_finding_gradients_and_batch_are_those_at_fault(tmp_path: Path) -> None:
    model, optimizer = make(torch.optim.SGD, lr=0.1)
    trained = Trained()
    with seismograd.watch(
        model, optimizer, out=tmp_path / "run", snapshot="on-finding,batch", guard=True, quiet=True
    ):
        trained.run(model, optimizer, poisoned=True)
    run = seismograd.open_run(tmp_path / "run")
    (gradients,) = [s for s in of(run, "gradients") if s.reason == "nonfinite"]
    assert gradients.step == BAD  # before the guard has cleared them
    for name, gradient in trained.gradients[BAD].items():
        np.testing.assert_array_equal(gradients[name], gradient.numpy())
    (batch,) = [s for s in of(run, "batch") if s.reason == "nonfinite"]
    assert batch.step == BAD
    np.testing.assert_array_equal(batch["0"], trained.inputs[BAD].numpy())
    assert {each.reason for each in run.snapshots()} == {"nonfinite"}


def test_a_finding_of_any_other_rule_is_answered_at_the_next_step(tmp_path: Path) -> None:
    model, optimizer = make(torch.optim.SGD, lr=0.1)
    with seismograd.watch(
        model, optimizer, out=tmp_path / "run", snapshot="on-finding", quiet=True
    ) as recording:
        for step, x in enumerate(batches(8)):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            if step in (3, 5):
                assert recording._snapshots is not None
                recording._snapshots.take_finding("SG103")
            optimizer.step()
    assert [(s.step, s.reason) for s in seismograd.open_run(tmp_path / "run").snapshots()] == [
        (3, "SG103")
    ]


def test_without_a_finding_nothing_is_kept(tmp_path: Path) -> None:
    model, optimizer = make(torch.optim.SGD, lr=0.1)
    with seismograd.watch(
        model, optimizer, out=tmp_path / "run", snapshot=["on-finding", "batch"], quiet=True
    ):
        Trained().run(model, optimizer)
    run = seismograd.open_run(tmp_path / "run")
    assert run.snapshots() == ()
    assert not (tmp_path / "run" / "snapshots").exists()


def test_a_training_that_is_stopped_keeps_the_batch_and_the_samples_at_fault(
    tmp_path: Path,
) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.log(self.layer(x).square() + x.abs().sum(1, keepdim=True)).sum(1)

    torch.manual_seed(0)
    model = Net()
    with torch.no_grad():
        model.layer.bias.zero_()
    optimizer = torch.optim.SGD(model.layer.parameters(), lr=0.0)
    x = torch.randn(8, 4)
    poisoned = x.clone()
    poisoned[[2, 5]] = 0.0

    def train_until_stopped() -> None:
        with seismograd.watch(
            model, optimizer, out=tmp_path / "run", halt_on=["error"], snapshot="batch", quiet=True
        ):
            for step in range(6):
                optimizer.zero_grad()
                model(poisoned if step == 4 else x).sum().backward()
                optimizer.step()

    with pytest.raises(TrainingHalted) as halted:
        train_until_stopped()
    assert halted.value.samples == (2, 5)
    run = seismograd.open_run(tmp_path / "run")
    (gradients,), (batch,) = of(run, "gradients"), of(run, "batch")
    assert gradients.samples == (2, 5)
    assert gradients.reason == batch.reason == halted.value.code
    np.testing.assert_array_equal(batch["0"], poisoned.numpy())


def test_a_step_that_evaluates_its_closure_is_kept_with_what_it_computed(tmp_path: Path) -> None:
    model, optimizer = make(torch.optim.Adam, lr=0.01)
    kept: list[torch.Tensor] = []
    with seismograd.watch(model, optimizer, out=tmp_path / "run", snapshot="step=2", quiet=True):
        for x in batches(4):

            def closure(x: torch.Tensor = x) -> torch.Tensor:
                optimizer.zero_grad()
                loss = model(x).square().mean()
                loss.backward()
                return loss

            optimizer.step(closure)
            gradient = next(model.parameters()).grad
            assert gradient is not None
            kept.append(gradient.clone())
    (snapshot,) = seismograd.open_run(tmp_path / "run").snapshots()
    np.testing.assert_array_equal(snapshot["0.weight"], kept[2].numpy())


def test_each_optimizer_has_a_file(tmp_path: Path) -> None:
    first, second = nn.Linear(4, 1), nn.Linear(4, 2)
    one = torch.optim.SGD(first.parameters(), lr=0.1)
    two = torch.optim.SGD(second.parameters(), lr=0.1)
    with seismograd.watch(one, two, out=tmp_path / "run", snapshot="step=1", quiet=True):
        for x in batches(3):
            one.zero_grad()
            two.zero_grad()
            (first(x).sum() + second(x).sum()).backward()
            one.step()
            two.step()
    files = {s.optimizer: s.path.name for s in seismograd.open_run(tmp_path / "run").snapshots()}
    assert files == {
        0: "step-00000001.safetensors",
        1: "step-00000001-optimizer-1.safetensors",
    }


def test_bfloat16_sparse_and_empty_gradients_are_kept(tmp_path: Path) -> None:
    torch.manual_seed(0)
    table = nn.Embedding(10, 3, sparse=True)
    layer = nn.Linear(3, 2, dtype=torch.bfloat16)
    empty = nn.Parameter(torch.zeros(0, 3))
    parameters = [*table.parameters(), *layer.parameters(), empty]
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    with seismograd.watch(
        table, layer, optimizer, out=tmp_path / "run", snapshot="step=0", quiet=True
    ):
        loss = layer(table(torch.tensor([1, 2])).bfloat16()).float().sum() + empty.sum()
        loss.backward()
        gradients = [p.grad for p in parameters]
        optimizer.step()
    (snapshot,) = seismograd.open_run(tmp_path / "run").snapshots()
    assert len(snapshot.tensors) == len(parameters)
    for stored, gradient in zip(
        sorted(snapshot.tensors), sorted(g.numel() for g in gradients if g is not None), strict=True
    ):
        assert snapshot[stored] is not None
        assert gradient >= 0
    (weight,) = [name for name in snapshot.tensors if snapshot.tensors[name].shape == (2, 3)]
    expected = layer.weight.grad
    assert expected is not None
    np.testing.assert_array_equal(snapshot[weight], expected.float().numpy())


def test_a_disk_that_is_full_ends_snapshots_and_not_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("seismograd.capture.snapshots.snapshot_files.write_tensors", refuse)
    model, optimizer = make(torch.optim.SGD, lr=0.1)
    trained = Trained()
    with seismograd.watch(model, optimizer, out=tmp_path / "run", snapshot="every=5", quiet=True):
        trained.run(model, optimizer)
    assert len(trained.weights) == 30
    run = seismograd.open_run(tmp_path / "run")
    assert [note for note in run.notes if note.kind == "failure"]


class TestPlan:
    def test_what_is_understood(self) -> None:
        assert parse_snapshots([]) is None
        assert parse_snapshots(["every=100"]) == SnapshotPlan(every=100)
        assert parse_snapshots(["step=3", "step=0,on-finding"]) == SnapshotPlan(
            steps=frozenset({0, 3}), on_finding=True
        )
        assert parse_snapshots(["batch,weights,keep=2,limit=1"]) == SnapshotPlan(
            batch=True, weights=True, keep=2, max_bytes=2**30
        )

    @pytest.mark.parametrize(
        "text",
        ["", "every", "every=0", "every=-1", "every=x", "step=", "weights", "keep=3", "often", "="],
    )
    def test_what_is_refused(self, text: str) -> None:
        with pytest.raises(SeismogradError):
            parse_snapshots([text])
