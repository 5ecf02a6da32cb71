from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seismograd.analysis.depth_profile import layer_norms, profiles
from seismograd.analysis.profile_layers import layers_of
from seismograd.analysis.robust_line import MAX_FITTED
from seismograd.schema import Parameter, State
from tests.synthetic import block, make_parameters


def parameter(
    name: str, *shape: int, module: str = "Linear", depth: int | None = None, trainable: bool = True
) -> Parameter:
    return Parameter(
        name, shape, "float32", int(np.prod(shape)), module, depth=depth, trainable=trainable
    )


def test_layers_are_trainable_weights_of_two_dimensions_in_the_order_of_execution() -> None:
    layers = layers_of(
        [
            parameter("head.weight", 10, 8, depth=9),
            parameter("head.bias", 10, depth=10),
            parameter("emb.weight", 100, 8, module="Embedding", depth=0),
            parameter("cls", 1, 1, 8, module="ViT", depth=1),
            parameter("norm.weight", 8, module="LayerNorm", depth=2),
            parameter("rnn.weight_ih_l0", 32, 8, module="LSTM", depth=4),
            parameter("rnn.bias_ih_l0", 32, module="LSTM", depth=5),
            parameter("frozen.weight", 8, 8, depth=3, trainable=False),
            parameter("conv.weight", 8, 3, 3, 3, module="Conv2d", depth=3),
            parameter("never.weight", 8, 8, depth=None),
        ]
    )
    assert layers.names == ("conv.weight", "rnn.weight_ih_l0", "head.weight")
    assert layers.bias_names == ("", "rnn.bias_ih_l0", "head.bias")


def test_without_any_depth_the_order_is_that_of_the_parameters() -> None:
    layers = layers_of([parameter("b.weight", 4, 4), parameter("a.weight", 4, 4)])
    assert layers.names == ("b.weight", "a.weight")


def test_weights_and_biases_make_one_layer() -> None:
    made = block([[3.0, 4.0, 5.0, 0.0]])
    norms = layer_norms(made, layers_of(made.parameters))
    assert norms.combined.tolist() == [[5.0, 5.0]]
    assert norms.larger(layers_of(made.parameters), 0, 0) == ("net.0.bias", 4.0)


def test_states_are_kept_apart() -> None:
    made = block(
        [[1.0, 1.0, 1.0, 1.0, 1.0]],
        parameters=make_parameters(names=[f"{i}.weight" for i in range(5)]),
        state=[list(State)],
    )
    combined = layer_norms(made, layers_of(made.parameters)).combined[0]
    assert np.isnan(combined[State.NOT_MEASURED])
    assert np.isnan(combined[State.ABSENT])
    assert combined[State.ZERO] == 0
    assert combined[State.FINITE] == 1
    assert combined[State.NONFINITE] == np.inf


@given(
    num_layers=st.integers(4, 3 * MAX_FITTED),
    slope=st.floats(0.1, 3),
    scale=st.integers(-100, 100),
    decays=st.booleans(),
    outliers=st.integers(0, 1),
)
def test_a_line_is_found_again_at_any_scale_and_with_an_outlier(
    num_layers: int, slope: float, scale: int, decays: bool, outliers: int
) -> None:
    sign = 1 if decays else -1
    height = sign * slope * np.arange(num_layers) + scale
    height = np.clip(height, -300, 300)
    if num_layers > 10 and outliers:
        height[num_layers // 2] += 0.5
    straight = np.ptp(height) == pytest.approx(slope * (num_layers - 1))
    profile = profiles(10.0 ** height[None], 4, decays=decays, min_range=0.0)
    assert profile.evaluated.all()
    if straight:
        assert np.log10(profile.gain[0]) == pytest.approx(-sign * slope, rel=0.05)
        assert profile.goodness[0] > 0.8


def test_a_cliff_is_not_a_line() -> None:
    for height in range(2, 9):
        for cliff in range(1, 12):
            norm = np.where(np.arange(12) < cliff, 10.0**-height, 1.0)
            profile = profiles(norm[None], 4, decays=True, min_range=1.0)
            assert (
                profile.goodness[0] < 0.8
                or profile.total_gain[0] > 10.0 ** (-0.7 * height)
                or cliff in (1, 11)
                or profile.gain[0] == 1
            )


def test_leading_zeros_are_counted_and_zeros_in_between_are_passed_over() -> None:
    profile = profiles(
        np.array([[0, 0, 1e-6, 1e-5, 0, 1e-4, 1e-3, np.nan]]), 4, decays=True, min_range=3.0
    )
    assert profile.leading_zeros.tolist() == [2]
    assert profile.num_layers.tolist() == [4]
    assert profile.gain[0] == pytest.approx(0.1)


@given(st.integers(0, 5), st.sampled_from([np.inf, np.nan]))
def test_a_row_with_a_nonfinite_layer_or_too_few_is_not_evaluated(
    position: int, value: float
) -> None:
    norm = np.geomspace(1e-9, 1, 6)
    norm[position] = value
    assert profiles(norm[None], 6, decays=True, min_range=1.0).evaluated.tolist() == [False]
    assert profiles(norm[None], 5, decays=True, min_range=1.0).evaluated.tolist() == [
        bool(np.isnan(value))
    ]


@given(st.integers(0, 2**32), st.integers(4, 40))
def test_each_row_is_fitted_by_itself_to_the_last_bit(seed: int, num_layers: int) -> None:
    rng = np.random.default_rng(seed)
    norm = 10.0 ** (
        rng.normal(0, 1, (6, num_layers)) + np.arange(num_layers) * rng.choice([0, 0.3, 1])
    )
    if rng.random() < 0.5:
        norm[rng.random(norm.shape) < 0.1] = 0
        norm[rng.random(norm.shape) < 0.1] = np.nan
    combined = profiles(norm, 4, decays=True, min_range=1.0)
    for row in range(6):
        alone = profiles(norm[row : row + 1], 4, decays=True, min_range=1.0)
        for name in ("evaluated", "gain", "total_gain", "goodness", "num_layers", "leading_zeros"):
            assert getattr(combined, name)[row] == getattr(alone, name)[0]


def test_a_finite_gradient_whose_norm_underflows_is_not_zero() -> None:
    made = block([[0.0, 1.0]], parameters=make_parameters(names=["0.weight", "1.weight"]))
    made = replace(made, state=np.array([[State.FINITE, State.FINITE]], np.uint8))
    assert layer_norms(made, layers_of(made.parameters)).combined[0, 0] > 0
