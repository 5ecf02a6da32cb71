from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seismograd.rules import ExplodingGradient, NonfiniteGradient
from seismograd.schema import Finding, Optimizer, RowBatch
from tests.rules.cutting import codes, result, status
from tests.rules.made import chain, weights_only
from tests.synthetic import block, make_parameters

ADAM = (Optimizer(0, "Adam", "optimizer"),)


def only(made: RowBatch) -> Finding:
    (finding,), _ = result([made], rules=(ExplodingGradient, NonfiniteGradient))
    return finding


def series(norms: np.ndarray, **options: object) -> RowBatch:
    """Two parameters that share a norm per step."""
    return block(np.outer(norms, [0.8, 0.6]), **options)  # type: ignore[arg-type]


@given(num_layers=st.integers(6, 30), scale=st.integers(-20, 20), seed=st.integers(0, 2**32))
def test_what_grows_towards_the_input_is_found_at_any_depth_and_scale(
    num_layers: int, scale: int, seed: int
) -> None:
    made = block(chain(num_layers, 8.0, steps=20, scale=10.0**scale, seed=seed), optimizers=ADAM)
    finding = only(made)
    assert (finding.code, finding.first_step, finding.last_step) == ("SG102", 0, 19)
    assert finding.parameters[0] == "net.0.weight"
    assert "multiplies the gradient by" in finding.cause.render()
    assert "kaiming" in finding.advice.render()


def test_large_initial_weights_are_seen_by_the_biases_when_all_weights_have_the_same_norm() -> None:
    norms = chain(8, 6.0, steps=40)
    norms[:, ::2] = 1e6
    finding = only(block(norms, optimizers=ADAM))
    assert (finding.code, finding.first_step, finding.last_step) == ("SG102", 0, 39)
    assert finding.evidence[0].parameter == "net.0.bias"


def test_biases_that_come_to_grow_by_learning_large_outputs_are_no_fault() -> None:
    norms = np.concatenate([chain(8, 1.0, steps=10), chain(8, 6.0, steps=60)])
    norms[:, ::2] = 1e6
    assert codes(block(norms, optimizers=ADAM)) == []


@pytest.mark.parametrize(("num_layers", "gain"), [(4, 5.0), (20, 1.3), (60, 1.05)])
def test_a_mild_growth_is_no_fault(num_layers: int, gain: float) -> None:
    assert codes(block(chain(num_layers, gain, steps=60), optimizers=ADAM)) == []


@given(
    base=st.integers(-12, 12),
    factor=st.floats(2.5, 30),
    quiet=st.integers(2, 60),
    noise=st.floats(0, 0.2),
    losses=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_what_grows_from_step_to_step_is_found_before_it_is_nan(
    base: int, factor: float, quiet: int, noise: float, losses: bool, seed: int
) -> None:
    rng, growing = np.random.default_rng(seed), 16
    power = np.maximum(np.arange(quiet + growing) - quiet, 0)
    norms = np.minimum(10.0 ** (base + rng.normal(0, noise, len(power))) * factor**power, 1e37)
    norms = np.concatenate([norms, [np.nan] * 3])
    loss = np.concatenate([1 + power, [np.nan] * 3]) if losses else np.nan
    finding = only(series(norms, loss=loss, optimizers=ADAM))
    assert finding.code == "SG102"
    assert finding.related == ("SG201",)
    assert quiet < finding.first_step < quiet + growing
    assert finding.last_step == quiet + growing - 1
    assert finding.evidence[0].step < quiet + growing


@given(factor=st.floats(1.15, 3), quiet=st.integers(0, 80), seed=st.integers(0, 2**32))
def test_a_slow_but_steady_growth_is_found_too(factor: float, quiet: int, seed: int) -> None:
    growing = int(np.ceil(9 / np.log10(factor))) + 8
    power = np.maximum(np.arange(quiet + growing) - quiet, 0)
    norms = factor**power * 10 ** np.random.default_rng(seed).normal(0, 0.05, len(power))
    finding = only(series(norms, loss=factor ** (2.0 * power), optimizers=ADAM))
    assert finding.code == "SG102"
    assert quiet < finding.first_step
    assert "loss did not fall" in finding.cause.render()


def test_a_loss_that_falls_without_a_limit_counts_as_one_that_rises() -> None:
    norms = np.concatenate([np.full(20, 30.0), np.geomspace(30, 1e15, 40)])
    finding = only(series(norms, loss=2000 - norms, optimizers=ADAM))
    assert finding.code == "SG102"
    assert "falls without a limit" in finding.cause.render()
    assert "sign" in finding.advice.render()


def test_a_negative_loss_of_some_size_is_one_that_falls() -> None:
    norms = np.geomspace(1, 1e5, 60)
    assert codes(series(norms, loss=np.linspace(2, -900, 60), optimizers=ADAM)) == []


def test_learning_large_outputs_is_no_fault() -> None:
    norms = np.geomspace(1, 1e5, 60)
    assert codes(series(norms, loss=np.linspace(100, 60, 60), optimizers=ADAM)) == []


@given(
    noise=st.floats(0, 0.5),
    seed=st.integers(0, 2**32),
    base=st.integers(-20, 20),
    drift=st.floats(-0.02, 0.02),
)
def test_noise_and_drift_are_no_fault(noise: float, seed: int, base: int, drift: float) -> None:
    norms = 10.0 ** (
        base + drift * np.arange(120) + np.random.default_rng(seed).normal(0, noise, 120)
    )
    assert codes(series(norms, optimizers=ADAM)) == []


@pytest.mark.parametrize("length", [1, 2])
def test_a_spike_is_another_fault(length: int) -> None:
    norms = np.ones(60)
    norms[30 : 30 + length] = 1e9
    loss = np.where(norms > 1, 1e5, 1.0)
    assert codes(series(norms, loss=loss)) == ["SG103"]


def test_leaving_a_plateau_is_no_fault() -> None:
    norms = np.concatenate([np.full(50, 1e-6), np.geomspace(1e-6, 1, 20), np.full(20, 1.0)])
    loss = np.concatenate([np.full(50, 2.3), np.linspace(2.3, 0.5, 40)])
    assert codes(series(norms, loss=loss, optimizers=ADAM)) == []


def test_coming_back_from_convergence_is_no_fault_even_when_the_loss_jumps() -> None:
    norms = np.concatenate([np.full(10, 1.0), np.geomspace(1, 1e-7, 40), np.full(40, 1.0)])
    loss = np.concatenate([np.full(10, 2.3), np.geomspace(2.3, 1e-7, 40), np.full(40, 2.3)])
    assert codes(series(norms, loss=loss, optimizers=ADAM)) == []


def first_update(norm: float, lr: float = 1e-4, **options: object) -> RowBatch:
    return series(
        np.array([norm, np.nan, np.nan]),
        lr=lr,
        samples={"weight_norm": [[1e3, 1e3]]},
        sample_rows=[0],
        **options,
    )


def test_a_first_update_larger_than_the_weights_is_found_at_once() -> None:
    finding = only(first_update(1e8))
    assert (finding.code, finding.first_step, finding.last_step) == ("SG102", 0, 0)
    assert finding.related == ("SG201",)
    assert finding.where == "train.py:12"
    norm, update = finding.evidence
    assert norm.value == pytest.approx(1e8)
    assert norm.limit == pytest.approx(2e6**0.5 / 1e-4)
    assert update.value == pytest.approx(1e4)
    assert "this update is 7.1 times as large as all weights together" in finding.cause.render()


@pytest.mark.parametrize(
    ("norm", "options"),
    [
        (1e8, {"lr": 1e-9}),  # a summed loss, and a learning rate to go with it
        (9e5, {"lr": 1.0}),  # a large step, but nothing enormous
        (1e8, {"optimizers": ADAM}),  # which divides by the gradient's size
        (1e8, {"clip_limit": 1.0, "clip_norm": 1e8}),
        (1e8, {"applied_norm": 1.0}),  # by a clip, or by hand
    ],
)
def test_size_alone_is_no_fault(norm: float, options: dict[str, object]) -> None:
    assert "SG102" not in codes(first_update(norm, **options))


def test_without_sampled_weights_the_first_update_cannot_be_judged() -> None:
    made = first_update(1e8)
    assert codes(replace(made, samples={}, sample_rows=np.zeros(0, np.int64))) == ["SG201"]


@given(scale=st.integers(-20, 30), seed=st.integers(0, 2**32))
def test_a_summed_loss_is_no_fault_at_any_scale(scale: int, seed: int) -> None:
    made = block(
        chain(6, 1.0, steps=40, scale=10.0**scale, seed=seed), loss=10.0**scale, optimizers=ADAM
    )
    assert codes(made) == []


def test_nothing_finite_is_not_evaluated() -> None:
    made = series(np.array([1.0, *[np.nan] * 20]))
    assert status(made, "SG102").reason.render() == "needs 5 steps with finite gradients, has 1"


def test_layers_without_biases_are_judged_by_their_weights() -> None:
    assert codes(
        block(chain(8, 8.0, steps=20)[:, ::2], parameters=weights_only(8), optimizers=ADAM)
    ) == ["SG102"]


def test_low_rank_factors_of_frozen_weights_are_no_layers() -> None:
    def made(base: str) -> RowBatch:
        names = [
            f"block.{i}.{each}" for i in range(6) for each in (base, "down.weight", "up.weight")
        ]
        shapes = [(64, 64), (4, 64), (64, 4)] * 6
        parameters = tuple(
            replace(each, trainable=not each.name.endswith("base.weight"))
            for each in make_parameters(names=names, shapes=shapes)
        )
        norms = np.repeat(chain(6, 12.0, steps=20)[:, ::2], 3, axis=1)
        return block(norms, parameters=parameters, optimizers=ADAM)

    assert codes(made("trained.weight")) == ["SG102"]
    assert codes(made("base.weight")) == []
