"""Clippers that learn their limit: a NaN leaves no trace, an outlier moves little, and limits
scale with the gradients.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import seismograd
from seismograd.control.clip.adaptive_clipping import FAR, AdaptiveClipper
from tests.control.models import Keeper, batches, mean_loss, net

Make = Callable[[], AdaptiveClipper]

CLIPPERS: dict[str, Make] = {
    "AutoClip": lambda: seismograd.AutoClip(percentile=50, window=20),
    "AutoClip, 10 %": lambda: seismograd.AutoClip(window=30),
    "AutoClip, 100 %": lambda: seismograd.AutoClip(percentile=100, window=7),
    "ZClip": lambda: seismograd.ZClip(warm_up=5),
    "ZClip, short memory": lambda: seismograd.ZClip(z=1.0, alpha=0.5, warm_up=2),
}

makes = pytest.mark.parametrize("make", CLIPPERS.values(), ids=CLIPPERS.keys())
few = settings(max_examples=25)
healthy = st.lists(st.floats(1.0, 2.0), min_size=30, max_size=60)


def step(clipper: AdaptiveClipper, norm: float) -> tuple[float, float]:
    """Clip a gradient of this norm: the limit, and the norm after (0 when the gradient was
    cleared).
    """
    parameter = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    parameter.grad = torch.tensor([norm], dtype=torch.float64)
    clipper([parameter])
    return clipper.limit, 0.0 if parameter.grad is None else abs(parameter.grad.item())


def limits(clipper: AdaptiveClipper, norms: Sequence[float]) -> list[float]:
    return [step(clipper, norm)[0] for norm in norms]


@makes
@few
@given(
    norms=healthy,
    positions=st.lists(st.integers(0, 29), min_size=1, max_size=5),
    bad=st.sampled_from([math.nan, math.inf, -math.inf]),
)
@pytest.mark.filterwarnings("ignore:the gradient:RuntimeWarning")
def test_what_is_not_finite_leaves_no_trace(
    make: Make, norms: list[float], positions: list[int], bad: float
) -> None:
    without, clipper = limits(make(), norms), make()
    found: list[float] = []
    for number, norm in enumerate(norms):
        for _ in range(positions.count(number)):
            assert step(clipper, bad)[1] == 0.0  # cleared
        found.append(step(clipper, norm)[0])
    assert found == without
    assert clipper.num_skipped == len(positions)


@makes
@few
@given(
    norms=healthy,
    outlier=st.floats(1e3, 1e300),
    after=st.lists(st.floats(1.0, 2.0), min_size=1, max_size=30),
)
def test_an_outlier_is_clipped_and_moves_the_limit_little(
    make: Make, norms: list[float], outlier: float, after: list[float]
) -> None:
    clipper = make()
    limits(clipper, norms)
    assert step(clipper, outlier)[1] <= 2 * FAR * (1 + 1e-9)
    for norm in after:
        limit, clipped = step(clipper, norm)
        assert limit <= 2 * FAR
        assert clipped == pytest.approx(min(norm, limit))


@makes
@few
@given(
    norms=st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=50), exponent=st.integers(-300, 300)
)
def test_limits_scale_with_the_gradients(make: Make, norms: list[float], exponent: int) -> None:
    scale = 2.0**exponent
    assert limits(make(), [norm * scale for norm in norms]) == pytest.approx(
        [limit * scale for limit in limits(make(), norms)], rel=1e-6, abs=0
    )


@makes
@few
@given(norms=st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=40), cut=st.integers(0, 39))
def test_it_goes_on_from_its_state(make: Make, norms: list[float], cut: int) -> None:
    whole = make()
    expected = limits(whole, norms)
    first, second = make(), make()
    before = limits(first, norms[:cut])
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert before + limits(second, norms[cut:]) == expected
    assert json.dumps(second.state_dict()) == json.dumps(whole.state_dict())


@makes
@given(norms=healthy)
@settings(max_examples=5)
def test_norms_that_grow_for_good_are_followed(make: Make, norms: list[float]) -> None:
    clipper = make()
    limits(clipper, norms)
    grown = [step(clipper, 100.0)[0] for _ in range(150)]
    assert grown[-1] > 30
    assert step(clipper, 100.0)[1] > 30


@makes
def test_gradients_of_zero_are_no_trouble(make: Make) -> None:
    clipper = make()
    for norm in [0.0] * 40 + [1.0] * 40:
        limit, after = step(clipper, norm)
        assert not math.isnan(limit)
        assert after == min(norm, limit)
    assert step(clipper, 1.0)[1] > 0


def test_the_state_of_another_clipper_is_refused() -> None:
    with pytest.raises(seismograd.SeismogradError, match="ZClip"):
        seismograd.ZClip().load_state_dict(seismograd.AutoClip().state_dict())


@pytest.mark.parametrize("arguments", [{"percentile": 0}, {"percentile": 101}, {"window": 0}])
def test_an_autoclip_that_makes_no_sense_is_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(seismograd.SeismogradError):
        seismograd.AutoClip(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("arguments", [{"z": 0}, {"alpha": 1}, {"warm_up": 1}, {"z": math.nan}])
def test_a_zclip_that_makes_no_sense_is_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(seismograd.SeismogradError):
        seismograd.ZClip(**arguments)  # type: ignore[arg-type]


@given(
    norms=st.lists(st.floats(0.1, 10), min_size=1, max_size=30),
    percentile=st.sampled_from([10.0, 50.0, 90.0, 100.0]),
)
def test_the_limit_of_autoclip_is_a_percentile_of_what_it_remembers(
    norms: list[float], percentile: float
) -> None:
    clipper = seismograd.AutoClip(percentile, window=8)
    for number in range(len(norms)):
        limit = step(clipper, norms[number])[0]
        remembered = clipper.state_dict()["norms"]
        assert len(remembered) == min(8, number + 1)
        assert limit in remembered
        assert (
            sum(each <= limit for each in remembered) >= percentile / 100 * len(remembered) - 1e-9
        )


def test_zclip_clips_to_the_mean_and_less_the_farther_an_outlier_is_off() -> None:
    clipper = seismograd.ZClip(z=2.0, alpha=0.9, warm_up=4)
    limits(clipper, [1.0, 3.0, 1.0, 3.0])  # mean 2, standard deviation 1
    near, far = copy.deepcopy(clipper), copy.deepcopy(clipper)
    assert step(near, 2.0 + 4.0)[1] == pytest.approx(2.0 + 2.0**2 / 4)
    assert step(far, 2.0 + 8.0)[1] == pytest.approx(2.0 + 2.0**2 / 8)
    assert step(clipper, 3.9)[1] == 3.9


def test_a_window_takes_a_clipper_and_leaves_out_what_it_skips(tmp_path: Path) -> None:
    parts, model = batches([3] * 8), net()
    optimizer, clipper = Keeper(model), seismograd.AutoClip(percentile=100, window=4)
    accumulation = seismograd.accumulate(parts, 2, model=model, optimizer=optimizer)
    with seismograd.watch(model, optimizer, out=tmp_path / "run"):
        for number, window in enumerate(accumulation):
            for batch in window:
                loss = mean_loss(model, batch)
                window.backward(loss * math.nan if number == 2 else loss)
            if number == 2:
                with pytest.warns(RuntimeWarning, match=r"0\.weight"):
                    window.step(clip=clipper)
            else:
                window.step(clip=clipper)
    assert len(optimizer.consumed) == 3
    assert (accumulation.num_skipped, clipper.num_skipped) == (1, 1)
    run = seismograd.open_run(tmp_path / "run")
    assert run.steps["flags"].tolist() == [0, 0, 1, 0]
    assert run.steps["clip_norm"][[0, 1, 3]].tolist() == pytest.approx(
        run.steps["grad_norm"][[0, 1, 3]].tolist(), rel=1e-6
    )


def test_with_a_grad_scaler_a_clipper_says_nothing_of_infinities() -> None:
    model = net(torch.float32)
    optimizer, clipper = Keeper(model), seismograd.ZClip()
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for number, window in enumerate(
        seismograd.accumulate(
            batches([3] * 3, torch.float32), 1, optimizer=optimizer, scaler=scaler
        )
    ):
        for batch in window:
            loss = mean_loss(model, batch)
            window.backward(loss * math.inf if number == 1 else loss)
        window.step(clip=clipper)
    assert len(optimizer.consumed) == 2
    assert len(clipper.state_dict()["first"]) == 2


class TestUnits:
    def rows(self, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.double().reshape(gradient.shape[0], -1).norm(dim=1)

    @given(st.integers(1, 5), st.integers(1, 5), st.floats(1e-3, 1), st.integers(0, 1000))
    def test_each_unit_is_held_to_a_share_of_its_weights_and_keeps_its_direction(
        self, rows: int, columns: int, factor: float, seed: int
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        weight = nn.Parameter(torch.randn(rows, columns, 2, generator=generator))
        gradient = torch.randn(rows, columns, 2, generator=generator) * 10.0 ** torch.randint(
            -3, 3, (rows, 1, 1), generator=generator
        )
        weight.grad = gradient.clone()
        largest = seismograd.clip_grad_unit_([weight], factor).item()
        limits = self.rows(weight.detach()).clamp(min=1e-3) * factor
        before, after = self.rows(gradient), self.rows(weight.grad)
        torch.testing.assert_close(after, torch.minimum(before, limits), rtol=1e-5, atol=0)
        torch.testing.assert_close(
            weight.grad,
            (gradient.double() * (after / before)[:, None, None]).float(),
            rtol=1e-5,
            atol=0,
        )
        assert largest == pytest.approx(
            (before / self.rows(weight.detach()).clamp(min=1e-3)).max().item()
        )

    def test_a_bias_is_one_unit(self) -> None:
        bias = nn.Parameter(torch.ones(4))
        bias.grad = torch.ones(4)
        seismograd.clip_grad_unit_(bias, 0.1)
        torch.testing.assert_close(bias.grad, torch.full((4,), 0.1))

    @pytest.mark.parametrize(
        ("dtype", "value"),
        [
            (torch.float16, 6e4),
            (torch.float32, 3e19),
            (torch.float32, 3e38),
            (torch.float64, 1e300),
        ],
    )
    def test_the_norm_of_a_unit_does_not_overflow(self, dtype: torch.dtype, value: float) -> None:
        weight = nn.Parameter(torch.ones(2, 100, dtype=dtype))
        weight.grad = torch.full((2, 100), value, dtype=dtype)
        assert seismograd.clip_grad_unit_([weight], 0.1).item() == pytest.approx(
            float(weight.grad.new_tensor(value)), rel=1e-6
        )
        torch.testing.assert_close(
            weight.grad, torch.full((2, 100), 0.1, dtype=dtype), rtol=2e-3, atol=0
        )

    def test_a_unit_that_is_not_finite_is_named_and_spares_the_others(self) -> None:
        model = nn.Linear(2, 3, bias=False)
        model.weight.grad = torch.tensor([[math.nan, 1.0], [100.0, 100.0], [1e-9, 0.0]])
        with pytest.warns(RuntimeWarning, match="weight"):
            share = seismograd.clip_grad_unit_(model.named_parameters(), 0.01)
        assert math.isnan(share)
        assert model.weight.grad[0].isnan().tolist() == [True, False]
        assert self.rows(model.weight.grad)[1].item() == pytest.approx(
            0.01 * self.rows(model.weight.detach())[1].item(), rel=1e-5
        )
        assert model.weight.grad[2].tolist() == pytest.approx([1e-9, 0.0])

    def test_a_session_records_what_was_applied(self, tmp_path: Path) -> None:
        model = nn.Linear(4, 2)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        applied = []
        with seismograd.watch(model, optimizer, out=tmp_path / "run"):
            for _ in range(2):
                model(torch.ones(5, 4)).square().mean().backward()
                seismograd.clip_grad_unit_(model.parameters(), 0.01)
                applied.append(
                    math.hypot(
                        *(p.grad.norm().item() for p in model.parameters() if p.grad is not None)
                    )
                )
                optimizer.step()
                optimizer.zero_grad()
        run = seismograd.open_run(tmp_path / "run")
        assert run.steps["applied_norm"].tolist() == pytest.approx(applied, rel=1e-5)
        assert run.steps["flags"].tolist() == [0, 0]
