"""The gradient of a window is that of one batch with all its samples, however they are cut into
micro-batches.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import seismograd
from seismograd.schema import EventKind, StepFlag
from tests.control.models import (
    Batch,
    Keeper,
    batches,
    gradient_of_all,
    gradients,
    joined,
    mean_loss,
    net,
)


def windows_of(parts: Sequence[Batch], num: int) -> list[Sequence[Batch]]:
    return [parts[start : start + num] for start in range(0, len(parts), num)]


def assert_as_one_batch(
    consumed: list[list[Tensor]], parts: Sequence[Batch], num: int, rtol: float = 1e-9
) -> None:
    """Each gradient that was consumed is that of the window's samples in one batch, by the
    weights of its time.
    """
    model = net(consumed[0][0].dtype)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    assert len(consumed) == math.ceil(len(parts) / num)
    for used, window in zip(consumed, windows_of(parts, num), strict=True):
        for mine, whole in zip(used, gradient_of_all(model, window), strict=True):
            torch.testing.assert_close(mine, whole, rtol=rtol, atol=rtol * 0.1)
        for parameter, gradient in zip(model.parameters(), used, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()


@given(st.lists(st.integers(1, 9), min_size=1, max_size=9), st.integers(1, 5))
@settings(max_examples=25)
def test_uneven_micro_batches_and_short_last_windows_make_no_difference(
    sizes: list[int], num: int
) -> None:
    parts, model = batches(sizes), net()
    optimizer = Keeper(model)
    for window in seismograd.accumulate(parts, num, model=model, optimizer=optimizer):
        for batch in window:
            window.backward(mean_loss(model, batch), weight=len(batch[1]))
        window.step()
    assert_as_one_batch(optimizer.consumed, parts, num)
    assert all(p.grad is None for p in model.parameters())


def test_tokens_that_do_not_count_do_not_count() -> None:
    parts = batches([6, 6, 6, 6])
    for (_, targets), ignored in zip(parts, (0, 5, 2, 3), strict=True):
        targets[:ignored] = -1
    model = net()
    optimizer = Keeper(model)
    for window in seismograd.accumulate(parts, 4, model=model, optimizer=optimizer):
        for batch in window:
            window.backward(mean_loss(model, batch), weight=(batch[1] != -1).sum())
        window.step()
    assert_as_one_batch(optimizer.consumed, parts, 4)


def test_a_micro_batch_of_weight_zero_adds_nothing_even_if_its_loss_is_nan() -> None:
    parts = batches([4, 4, 4])
    parts[1][1][:] = -1
    model = net()
    optimizer = Keeper(model)
    for window in seismograd.accumulate(parts, 3, model=model, optimizer=optimizer):
        for batch in window:
            window.backward(mean_loss(model, batch), weight=int((batch[1] != -1).sum()))
        window.step()
    assert_as_one_batch(optimizer.consumed, [parts[0], parts[2]], 2)


@pytest.mark.parametrize("max_norm", [None, 0.05])
def test_with_a_grad_scaler_the_gradient_is_the_same(max_norm: float | None) -> None:
    parts, model = batches([5, 3, 8, 2, 7], torch.float32), net(torch.float32)
    optimizer = Keeper(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**14)
    norms = []
    for window in seismograd.accumulate(parts, 3, model=model, optimizer=optimizer, scaler=scaler):
        for batch in window:
            window.backward(mean_loss(model, batch), weight=len(batch[1]))
        norms.append(window.step(max_norm))
    if max_norm is None:
        assert_as_one_batch(optimizer.consumed, parts, 3, rtol=1e-5)
    else:
        for used, norm in zip(optimizer.consumed, norms, strict=True):
            assert norm is not None
            assert norm > max_norm
            assert math.hypot(*(gradient.norm().item() for gradient in used)) == pytest.approx(
                max_norm, rel=1e-4
            )


def test_weights_cost_no_range_in_half_precision() -> None:
    """A weight of a million times a loss scale of 2^10 would be infinite in float16; in units of
    the window's own it is not.
    """
    model = nn.Linear(5, 3, bias=False)
    optimizer = Keeper(model, 0.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    inputs = torch.ones(4, 5, dtype=torch.float16)
    for window in seismograd.accumulate(
        [inputs] * 4, 2, model=model, optimizer=optimizer, scaler=scaler
    ):
        for batch in window:
            window.backward((batch @ model.weight.half().T).mean(), weight=1e6)
        window.step()
    assert len(optimizer.consumed) == 2  # a step that the scaler leaves out is not consumed
    for (used,) in optimizer.consumed:
        torch.testing.assert_close(used, torch.full((3, 5), 1 / 3), rtol=1e-3, atol=0)


def test_a_step_that_the_scaler_leaves_out_clears_the_window() -> None:
    parts, model = batches([4, 4, 4, 4], torch.float32), net(torch.float32)
    optimizer = Keeper(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**4)
    for number, window in enumerate(
        seismograd.accumulate(parts, 2, model=model, optimizer=optimizer, scaler=scaler)
    ):
        for batch in window:
            loss = mean_loss(model, batch)
            window.backward(loss * math.inf if number == 0 else loss)
        window.step(max_norm=10.0, nonfinite="raise")  # the scaler deals with it
    assert scaler.get_scale() == 2.0**3
    assert_as_one_batch(optimizer.consumed, parts[2:], 2, rtol=1e-5)


def test_several_optimizers_step_on_one_window() -> None:
    parts, model = batches([3, 6]), net()
    optimizers = [
        torch.optim.SGD(model[0].parameters(), 0.1),
        torch.optim.SGD(model[2].parameters(), 0.2),
    ]
    expected = [
        p - lr * g
        for p, g, lr in zip(
            model.parameters(), gradient_of_all(model, parts), (0.1, 0.1, 0.2, 0.2), strict=True
        )
    ]
    for window in seismograd.accumulate(parts, 2, model=model, optimizer=optimizers):
        for batch in window:
            window.backward(mean_loss(model, batch), weight=len(batch[1]))
        window.step()
    for parameter, value in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter, value)


def test_as_a_plain_object_it_fits_any_loop() -> None:
    parts, model = batches([3, 6, 2, 5]), net()
    optimizer = Keeper(model)
    with seismograd.accumulate(model=model, optimizer=optimizer) as window:
        for number, batch in enumerate(parts):
            window.backward(mean_loss(model, batch), weight=len(batch[1]))
            if number % 2:
                window.step()
    assert_as_one_batch(optimizer.consumed, parts, 2)


def test_equal_weights_give_the_mean_of_the_means() -> None:
    parts, model = batches([3, 6]), net()
    optimizer = Keeper(model)
    expected = [torch.zeros_like(p) for p in model.parameters()]
    for part in parts:
        expected = [
            total + g / 2 for total, g in zip(expected, gradient_of_all(model, [part]), strict=True)
        ]
    for window in seismograd.accumulate(parts, 2, optimizer=optimizer):
        for batch in window:
            window.backward(mean_loss(model, batch))
        window.step()
    for mine, other in zip(optimizer.consumed[0], expected, strict=True):
        torch.testing.assert_close(mine, other)


def test_a_window_of_one_is_plain_training_to_the_bit() -> None:
    parts = batches([4] * 5, torch.float32)
    ours, theirs = net(torch.float32), net(torch.float32)
    optimizers = [torch.optim.Adam(model.parameters()) for model in (ours, theirs)]
    for window in seismograd.accumulate(parts, 1, model=ours, optimizer=optimizers[0]):
        for batch in window:
            window.backward(mean_loss(ours, batch), weight=len(batch[1]))
        window.step()
    for batch in parts:
        mean_loss(theirs, batch).backward()
        optimizers[1].step()
        optimizers[1].zero_grad()
    assert all(
        torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True)
    )


def test_a_second_pass_goes_through_the_loader_anew() -> None:
    parts, model = batches([4, 4, 4]), net()
    optimizer = Keeper(model)
    accumulation = seismograd.accumulate(parts, 2, model=model, optimizer=optimizer)
    for _ in range(2):
        for window in accumulation:
            for batch in window:
                window.backward(mean_loss(model, batch))
            window.step()
    assert len(optimizer.consumed) == 4


class TestWrongUse:
    """It raises at once, with how to mend it."""

    @pytest.fixture
    def model(self) -> nn.Sequential:
        return net()

    @pytest.fixture
    def loop(self, model: nn.Sequential) -> seismograd.Accumulation[Batch]:
        return seismograd.accumulate(
            batches([2] * 4), 2, model=model, optimizer=torch.optim.SGD(model.parameters(), 0.1)
        )

    def test_a_window_that_was_not_stepped(
        self, model: nn.Sequential, loop: seismograd.Accumulation[Batch]
    ) -> None:
        windows = iter(loop)
        window = next(windows)
        for batch in window:
            window.backward(mean_loss(model, batch))
        with pytest.raises(seismograd.SeismogradError, match=r"step.* was not called"):
            next(windows)

    def test_backward_outside_of_the_micro_batches(
        self, model: nn.Sequential, loop: seismograd.Accumulation[Batch]
    ) -> None:
        window = next(iter(loop))
        with pytest.raises(seismograd.SeismogradError, match="no micro-batch was being processed"):
            window.backward(mean_loss(model, batches([2])[0]))

    def test_two_backwards_for_one_micro_batch(
        self, model: nn.Sequential, loop: seismograd.Accumulation[Batch]
    ) -> None:
        window = next(iter(loop))
        batch = next(iter(window))
        window.backward(mean_loss(model, batch))
        with pytest.raises(seismograd.SeismogradError, match="no micro-batch was being") as raised:
            window.backward(mean_loss(model, batch))
        assert "add them up first" in raised.value.line()

    def test_a_window_stepped_twice_or_on_nothing(
        self, model: nn.Sequential, loop: seismograd.Accumulation[Batch]
    ) -> None:
        window = next(iter(loop))
        with pytest.raises(seismograd.SeismogradError, match="no gradient to apply"):
            window.step()
        for batch in window:
            window.backward(mean_loss(model, batch))
        window.step()
        with pytest.raises(seismograd.SeismogradError, match="twice"):
            window.step()

    def test_gradients_from_before(
        self, model: nn.Sequential, loop: seismograd.Accumulation[Batch]
    ) -> None:
        mean_loss(model, batches([2])[0]).backward()
        window = next(iter(loop))
        with pytest.raises(seismograd.SeismogradError, match="before the first window"):
            window.backward(mean_loss(model, next(iter(window))))

    @pytest.mark.parametrize("weight", [-1, math.nan, math.inf])
    def test_a_weight_that_is_none(
        self, weight: float, model: nn.Sequential, loop: seismograd.Accumulation[Batch]
    ) -> None:
        window = next(iter(loop))
        with pytest.raises(seismograd.SeismogradError, match="weight"):
            window.backward(mean_loss(model, next(iter(window))), weight=weight)

    def test_a_loss_that_is_not_one_number(
        self, model: nn.Sequential, loop: seismograd.Accumulation[Batch]
    ) -> None:
        window = next(iter(loop))
        with pytest.raises(seismograd.SeismogradError, match="a single element"):
            window.backward(model(next(iter(window))[0]))

    @pytest.mark.parametrize("num", [0, -1, 1.5])
    def test_a_window_of_no_size(self, num: int, model: nn.Sequential) -> None:
        with pytest.raises(seismograd.SeismogradError, match="micro-batches"):
            seismograd.accumulate([], num, optimizer=torch.optim.SGD(model.parameters(), 0.1))

    def test_an_optimizer_that_needs_a_closure(self, model: nn.Sequential) -> None:
        with pytest.raises(seismograd.SeismogradError, match="closure"):
            seismograd.accumulate([], 2, optimizer=torch.optim.LBFGS(model.parameters()))

    def test_the_plain_object_and_the_windows_mixed_up(
        self, model: nn.Sequential, loop: seismograd.Accumulation[Batch]
    ) -> None:
        with pytest.raises(seismograd.SeismogradError):
            loop.backward(mean_loss(model, batches([2])[0]))
        plain = seismograd.accumulate(optimizer=torch.optim.SGD(model.parameters(), 0.1))
        with pytest.raises(seismograd.SeismogradError, match="iterate"):
            next(iter(plain))

    def test_two_limits(self, model: nn.Sequential, loop: seismograd.Accumulation[Batch]) -> None:
        window = next(iter(loop))
        for batch in window:
            window.backward(mean_loss(model, batch))
        with pytest.raises(seismograd.SeismogradError, match="max_norm and clip"):
            window.step(max_norm=1.0, clip=lambda _: None)
        window.step()  # nothing was lost


def test_a_step_on_what_is_not_finite_can_be_left_out_and_is_counted() -> None:
    parts, model = batches([2] * 6), net()
    optimizer = Keeper(model)
    accumulation = seismograd.accumulate(parts, 2, model=model, optimizer=optimizer)
    for number, window in enumerate(accumulation):
        for batch in window:
            loss = mean_loss(model, batch)
            window.backward(loss * math.nan if number == 1 else loss)
        if number == 1:
            with pytest.warns(RuntimeWarning, match=r"0\.weight"):
                window.step(max_norm=1.0, nonfinite="skip")
        else:
            window.step(max_norm=1.0, nonfinite="skip")
    assert accumulation.num_skipped == 1
    assert len(optimizer.consumed) == 2
    assert all(bool(g.isfinite().all()) for used in optimizer.consumed for g in used)


class TestWatched:
    """A session sees one batch: the same loss and norms, and nothing that it would call a fault."""

    SIZES = (5, 3, 8, 2, 7)

    def train(
        self, out: Path | None, scaler: bool = False, max_norm: float | None = 0.2, bad: int = -1
    ) -> nn.Sequential:
        parts, model = batches(self.SIZES), net()
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        amp = torch.amp.GradScaler("cpu", init_scale=256.0) if scaler else None
        session = None if out is None else seismograd.watch(model, optimizer, out=out)
        for number, window in enumerate(
            seismograd.accumulate(parts, 2, model=model, optimizer=optimizer, scaler=amp)
        ):
            for batch in window:
                loss = mean_loss(model, batch)
                window.backward(loss * math.nan if number == bad else loss, weight=len(batch[1]))
            window.step(max_norm, nonfinite="skip")
        if session is not None:
            session.close()
        return model

    @pytest.mark.parametrize("scaler", [False, True])
    @pytest.mark.parametrize("max_norm", [None, 0.2])
    def test_it_is_recorded_as_one_batch(
        self, scaler: bool, max_norm: float | None, tmp_path: Path
    ) -> None:
        watched, alone = (
            self.train(tmp_path / "run", scaler, max_norm),
            self.train(None, scaler, max_norm),
        )
        assert all(
            torch.equal(a, b) for a, b in zip(watched.parameters(), alone.parameters(), strict=True)
        )
        run = seismograd.open_run(tmp_path / "run")
        twin = net()
        optimizer = torch.optim.SGD(twin.parameters(), 0.1, momentum=0.9)
        for window, step in zip(windows_of(batches(self.SIZES), 2), run.steps, strict=True):
            loss = mean_loss(twin, joined(window))
            loss.backward()
            norm = math.hypot(*(g.norm().item() for g in gradients(twin)))
            assert step["loss"] == pytest.approx(loss.item(), rel=1e-9)
            assert step["grad_norm"] == pytest.approx(norm, rel=1e-6)
            assert step["flags"] == 0
            assert step["scale"] == (256.0 if scaler else 1.0)
            assert step["num_backwards"] == len(window)
            if max_norm is not None:
                assert step["clip_norm"] == pytest.approx(norm, rel=1e-6)
                assert step["applied_norm"] == pytest.approx(max_norm, rel=1e-4)
                torch.nn.utils.clip_grad_norm_(twin.parameters(), max_norm)
            optimizer.step()
            optimizer.zero_grad()
        backwards = run.events[run.events["kind"] == EventKind.BACKWARD]
        for number, sizes in enumerate(((5, 3), (8, 2), (7,))):
            mine = backwards[backwards["iteration"] == number]
            assert mine["count"].tolist() == list(sizes)
            # each sample counts the same
            assert (mine["count"] * mine["weight"]).sum() == pytest.approx(1.0)
            assert mine["weight"].tolist() == pytest.approx([1 / sum(sizes)] * len(sizes))
        assert run.notes == ()

    def test_a_step_that_is_left_out_is_recorded_as_skipped(self, tmp_path: Path) -> None:
        with pytest.warns(RuntimeWarning):
            self.train(tmp_path / "run", bad=1)
        run = seismograd.open_run(tmp_path / "run")
        assert run.steps["flags"].tolist() == [0, StepFlag.SKIPPED, 0]
        assert [math.isnan(norm) for norm in run.steps["grad_norm"].tolist()] == [
            False,
            True,
            False,
        ]
        assert run.notes == ()


def test_the_copy_is_of_the_model_and_not_of_the_optimizer() -> None:
    """The helper that the other tests compare with leaves the model alone."""
    model = net()
    before = copy.deepcopy(model.state_dict())
    gradient_of_all(model, batches([3]))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_after_a_gradient_that_raised_the_next_window_begins_at_zero() -> None:
    """What the window had counted does not dilute the next one; its gradients are refused until
    they are cleared.
    """
    parts, model = batches([4, 6]), net()
    optimizer = Keeper(model)
    with seismograd.accumulate(model=model, optimizer=optimizer) as window:
        window.backward(mean_loss(model, parts[0]) * math.nan, weight=4)
        with pytest.raises(seismograd.NonFiniteGradientError):
            window.step(nonfinite="raise")
        with pytest.raises(seismograd.SeismogradError, match="before the first window"):
            window.backward(mean_loss(model, parts[1]), weight=6)
        optimizer.zero_grad()
        window.backward(mean_loss(model, parts[1]), weight=6)
        window.step()
    assert_as_one_batch(optimizer.consumed, parts[1:], 1)


def test_a_loop_that_catches_what_was_raised_goes_on() -> None:
    parts, model = batches([4, 4, 5]), net()
    optimizer = Keeper(model)
    for number, window in enumerate(
        seismograd.accumulate(parts, 1, model=model, optimizer=optimizer)
    ):
        for batch in window:
            window.backward(
                mean_loss(model, batch) * (math.nan if number == 0 else 1.0), weight=len(batch[1])
            )
        try:
            window.step(nonfinite="raise")
        except seismograd.NonFiniteGradientError:
            optimizer.zero_grad()
    assert_as_one_batch(optimizer.consumed, parts[1:], 1)
