"""Ready gradients are sketched at every hundredth step, with the loss scale divided out, and found
in the record.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import seismograd
from seismograd.capture.rows.sketch_schedule import MAX_FACTOR, SketchSchedule
from seismograd.measure.native import native_sketch
from seismograd.measure.sketches import gradient_sketches
from seismograd.measure.sketches.gradient_sketches import sketch_gradients
from seismograd.schema import SampleKind


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(10, 20), nn.Tanh(), nn.Linear(20, 3))


def batch(step: int) -> Tensor:
    return torch.randn(5, 10, generator=torch.Generator().manual_seed(step))


def sketches_of(net: nn.Module) -> Any:
    return sketch_gradients([p.grad for p in net.parameters() if p.grad is not None]).values


def recorded(run: seismograd.Run) -> dict[int, dict[str, Any]]:
    return {
        each.step: dict(zip((s.name for s in each.subjects), each.values, strict=True))
        for each in run.sampled(SampleKind.GRADIENT_SKETCH)
    }


def test_every_hundredth_step_of_a_training_has_the_sketches_of_its_ready_gradients(
    tmp_path: Path,
) -> None:
    net = model()
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    expected: dict[int, Any] = {}
    with seismograd.watch(net, optimizer, out=tmp_path / "run", quiet=True):
        for step in range(205):
            optimizer.zero_grad()
            for part in range(2):
                (net(batch(2 * step + part)).square().mean() / 2).backward()
            if step % 100 == 0:
                expected[step] = sketches_of(net)
            nn.utils.clip_grad_norm_(net.parameters(), 1e-3)
            optimizer.step()
    found = recorded(seismograd.open_run(tmp_path / "run"))
    assert list(found) == [0, 100, 200]
    for step, sketches in found.items():
        assert list(sketches) == ["0.weight", "0.bias", "2.weight", "2.bias"]
        np.testing.assert_array_equal(list(sketches.values()), expected[step])


def test_the_scale_of_a_loss_and_a_second_optimizer_change_nothing(tmp_path: Path) -> None:
    net = model()
    first, last = net[0], net[2]
    optimizers = [torch.optim.SGD(part.parameters(), 0.01) for part in (first, last)]
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    with seismograd.watch(net, *optimizers, out=tmp_path / "run", quiet=True):
        scaler.scale(net(batch(0)).square().mean()).backward()
        expected = sketches_of(net) / 1024
        for optimizer in optimizers:
            scaler.step(optimizer)
        scaler.update()
    found = recorded(seismograd.open_run(tmp_path / "run"))
    np.testing.assert_allclose(list(found[0].values()), expected, 1e-6, 1e-9)


def test_a_gradient_that_is_absent_has_none_and_one_that_is_not_finite_has_nan(
    tmp_path: Path,
) -> None:
    net = model()
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    with seismograd.watch(net, optimizer, out=tmp_path / "run", replay=False, quiet=True):
        net[0].requires_grad_(False)
        (net(batch(0)).square().mean() * math.nan).backward()
        optimizer.step()
    found = recorded(seismograd.open_run(tmp_path / "run"))
    assert list(found[0]) == ["2.weight", "2.bias"]
    assert np.isnan(list(found[0].values())).all()


def test_the_light_level_sketches_nothing(tmp_path: Path) -> None:
    net = model()
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    with seismograd.watch(net, optimizer, out=tmp_path / "run", level="light", quiet=True):
        net(batch(0)).square().mean().backward()
        optimizer.step()
    assert len(seismograd.open_run(tmp_path / "run").sampled(SampleKind.GRADIENT_SKETCH)) == 0


def test_a_failure_leaves_out_sketches_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("of ours")

    monkeypatch.setattr(native_sketch, "sketch_plain", fails)
    monkeypatch.setattr(gradient_sketches, "readable", fails)
    net = model()
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    with seismograd.watch(net, optimizer, out=tmp_path / "run", quiet=True):
        for step in range(3):
            net(batch(step)).square().mean().backward()
            optimizer.step()
    run = seismograd.open_run(tmp_path / "run")
    assert np.isfinite(run.series("grad_norm")).all()
    assert len(run.sampled(SampleKind.GRADIENT_SKETCH)) == 0
    assert "sketches" in run.notes[0].message.render()


def due(schedule: SketchSchedule, step_s: float, cost_s: float, num_steps: int) -> list[int]:
    """The steps that are sketched when each takes `step_s`, and a sketch `cost_s`."""
    found: list[int] = []
    for step in range(num_steps):
        if schedule.is_due(step, step * step_s):
            schedule.took(step, step * step_s + cost_s, cost_s)
            found.append(step)
    return found


def test_sketches_that_cost_little_are_made_at_every_hundredth_step() -> None:
    assert due(SketchSchedule(100), 0.1, 0.01, 1001) == list(range(0, 1001, 100))
    assert due(SketchSchedule(0), 0.1, 0.01, 1001) == []


def test_sketches_that_cost_much_become_rarer_by_powers_of_two() -> None:
    found = due(SketchSchedule(100), 0.1, 0.15, 10_001)
    gaps = np.diff(found).tolist()
    assert gaps == sorted(gaps)
    assert gaps[-1] == 400
    assert all(step % gap == 0 for step, gap in zip(found[1:], gaps, strict=True))
    spent = 0.15 * len(found)
    assert spent <= 0.01 * 0.1 * 10_001
    assert np.diff(due(SketchSchedule(1), 1e-6, 1.0, 1000)).max() == MAX_FACTOR
