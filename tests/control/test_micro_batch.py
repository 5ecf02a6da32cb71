"""The largest micro-batch that fits is found by trying, and nothing is left behind."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import seismograd
from seismograd.control.accumulate.peak_memory import RESET, ProcessPeakMeter
from tests.control.models import batches, mean_loss, net

MEGABYTE = 1 << 20


class Sized:
    """A meter that knows what a size takes: it counts the samples that the work puts through the
    model.
    """

    def __init__(self, model: nn.Module, base: int, each: int, available: int = 10**9) -> None:
        self._base, self._each, self._available = base, each, available
        self._rows = 0
        self.sizes: list[int] = []
        model.register_forward_pre_hook(self._see)

    def _see(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._rows = len(inputs[0])

    def peak_of(self, work: Callable[[], None]) -> int | None:
        work()
        self.sizes.append(self._rows)
        peak = self._base + self._each * self._rows
        return peak if peak <= self._available else None


@settings(max_examples=25)
@given(st.integers(0, 1000), st.integers(1, 50), st.integers(1, 3000), st.integers(1, 300))
def test_it_is_the_largest_that_fits(base: int, each: int, limit: int, target: int) -> None:
    model = net()
    meter = Sized(model, base, each)
    expected = min(target, (limit - base) // each)
    if expected < 1:
        with pytest.raises(seismograd.SeismogradError, match="a single sample"):
            seismograd.find_micro_batch(
                model, mean_loss, batches([4])[0], target, memory_limit=limit, meter=meter
            )
        return
    found = seismograd.find_micro_batch(
        model, mean_loss, batches([4])[0], target, memory_limit=limit, meter=meter
    )
    assert found.size == expected
    assert found.peak == base + each * expected
    assert (found.num - 1) * found.size < target <= found.num * found.size
    assert len(meter.sizes) == len(set(meter.sizes)) <= 20
    # nothing reckless
    assert max(base + each * size for size in meter.sizes[2:] or [0]) <= max(
        2 * limit, base + 4 * each
    )


def test_running_out_of_memory_means_that_it_does_not_fit() -> None:
    model = net()
    meter = Sized(model, 0, 10, available=55)
    assert (
        seismograd.find_micro_batch(
            model, mean_loss, batches([2])[0], 64, memory_limit=1000, meter=meter
        ).size
        == 5
    )


def test_nothing_is_left_behind() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Dropout(0.5), nn.Linear(7, 3)
    ).double()
    mean_loss(model, batches([4])[0]).backward()
    gradients, before, random = (
        [p.grad for p in model.parameters()],
        copy.deepcopy(model.state_dict()),
        torch.get_rng_state(),
    )
    values = [g.clone() for g in gradients if g is not None]

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        # batch norm needs two
        return mean_loss(
            model, batch if len(batch[1]) > 1 else (batch[0].repeat(2, 1), batch[1].repeat(2))
        )

    seismograd.find_micro_batch(
        model, loss, batches([4])[0], 16, memory_limit=100, meter=Sized(model, 0, 10)
    )
    assert all(p.grad is g for p, g in zip(model.parameters(), gradients, strict=True))
    assert all(torch.equal(g, v) for g, v in zip(gradients, values, strict=True) if g is not None)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


def test_a_session_does_not_take_it_for_training(tmp_path: Path) -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with seismograd.watch(model, optimizer, out=tmp_path / "run"):
        seismograd.find_micro_batch(
            model, mean_loss, batches([4])[0], 16, memory_limit=100, meter=Sized(model, 0, 10)
        )
        seismograd.compare_accumulation(model, mean_loss, batches([4])[0], 2)
        mean_loss(model, batches([4])[0]).backward()
        optimizer.step()
    run = seismograd.open_run(tmp_path / "run")
    assert run.steps["num_backwards"].tolist() == [1]
    assert len(run.events) == 2
    assert run.notes == ()


@pytest.mark.skipif(
    sys.platform != "linux", reason="other systems do not tell the peak memory of a process"
)
class TestOnThisMachine:
    """Peak resident memory, of a network whose activations are much larger than its weights."""

    WIDTH, LAYERS = 4096, 8

    def model(self) -> nn.Module:
        return nn.Sequential(
            nn.Linear(16, self.WIDTH),
            *(nn.Tanh() for _ in range(self.LAYERS)),
            nn.Linear(self.WIDTH, 1),
        )

    @pytest.fixture(autouse=True)
    def can_be_reset(self) -> None:
        try:
            RESET.write_text("5")
        except OSError:
            pytest.skip("the peak cannot be reset here")

    def test_a_peak_is_what_was_in_use_at_once(self) -> None:
        meter = ProcessPeakMeter()
        base = meter.peak_of(lambda: None)
        peaks = [
            meter.peak_of(lambda size=size: torch.ones(size * MEGABYTE, dtype=torch.uint8).numel())
            for size in (64, 128, 32)
        ]
        assert base is not None
        for peak, size in zip(peaks, (64, 128, 32), strict=True):
            assert peak is not None
            # the one before has been given back
            assert size * MEGABYTE * 0.9 < peak - base < (size + 24) * MEGABYTE

    def test_the_size_that_is_found_stays_within_the_limit(self) -> None:
        model, meter = self.model(), ProcessPeakMeter()
        batch = torch.ones(64, 16)
        base = meter.peak_of(lambda: None)
        assert base is not None
        room = 64 * MEGABYTE
        each = self.WIDTH * 4 * (self.LAYERS + 1)  # bytes that a sample's activations take at least
        found = seismograd.find_micro_batch(
            model, lambda m, x: m(x).mean(), batch, 1 << 20, memory_limit=base + room
        )
        assert found.peak <= found.limit == base + room
        assert room / each / 4 < found.size <= room / each
        assert found.num * found.size >= 1 << 20


def test_on_the_cpu_a_limit_is_needed() -> None:
    with pytest.raises(seismograd.SeismogradError, match="limit"):
        seismograd.find_micro_batch(net(), mean_loss, batches([4])[0], 16)
