"""What each experiment says is so in its own numbers. No test asserts a time."""

from __future__ import annotations

import math

import pytest
import torch

from seismograd.lab import (
    accumulation_experiment,
    chain_experiment,
    gradients_experiment,
    losses_experiment,
    zero_grad_experiment,
)
from seismograd.lab.digits import digits


@pytest.fixture(scope="module")
def of_gradients() -> gradients_experiment.GradientsResult:
    return gradients_experiment.measure()


@pytest.fixture(scope="module")
def of_chain() -> chain_experiment.ChainResult:
    return chain_experiment.measure()


@pytest.fixture(scope="module")
def of_accumulation() -> accumulation_experiment.AccumulationResult:
    return accumulation_experiment.measure()


@pytest.fixture(scope="module")
def of_clearing() -> zero_grad_experiment.ZeroGradResult:
    return zero_grad_experiment.measure()


def test_a_gradient_has_one_scalar_for_each_weight(
    of_gradients: gradients_experiment.GradientsResult,
) -> None:
    first = of_gradients.parameters[0]
    assert (first.name, first.shape, first.count) == ("fc1.weight", (256, 784), 200_704)
    assert [(p.name, p.count) for p in of_gradients.parameters[1:]] == [
        ("fc1.bias", 256),
        ("fc2.weight", 2560),
        ("fc2.bias", 10),
    ]


def test_a_gradient_is_the_slope_of_the_loss(
    of_gradients: gradients_experiment.GradientsResult,
) -> None:
    assert {scalar.parameter for scalar in of_gradients.scalars} == {
        p.name for p in of_gradients.parameters
    }
    for scalar in of_gradients.scalars:
        assert scalar.slope == pytest.approx(scalar.double, rel=1e-6)
        assert scalar.single == pytest.approx(scalar.double, rel=1e-4)


def test_the_norm_is_made_of_the_scalars(
    of_gradients: gradients_experiment.GradientsResult,
) -> None:
    first = of_gradients.parameters[0]
    assert of_gradients.norm_of_scalars == pytest.approx(first.norm, rel=1e-12)
    assert sum(of_gradients.exponents.values()) + first.zeros == first.count
    low, middle, high = of_gradients.quantiles
    assert 0 < low < middle < high <= first.largest


def test_a_weight_of_a_black_pixel_has_no_gradient(
    of_gradients: gradients_experiment.GradientsResult,
) -> None:
    assert of_gradients.corner_pixel == 0
    assert of_gradients.corner == 0
    assert float(digits(gradients_experiment.BATCH)[0].max()) == 1  # others are not black


def test_a_chain_passes_on_gain_to_the_power_of_its_depth(
    of_chain: chain_experiment.ChainResult,
) -> None:
    at = {(each.gain, each.depth): each for each in of_chain.linear}
    assert set(at) == {
        (gain, depth) for gain in chain_experiment.GAINS for depth in chain_experiment.DEPTHS
    }
    for each in of_chain.linear:
        assert each.arrived == pytest.approx(each.gain**each.depth, rel=1e-4)
    assert f"{at[0.9, 100].arrived:.1e}" == "2.7e-05"
    assert f"{at[1.1, 100].arrived:,.0f}" in ("13,780", "13,781")


def test_all_scalars_rise_and_fall_with_the_norm(of_chain: chain_experiment.ChainResult) -> None:
    for gain in chain_experiment.GAINS:
        mine = [each for each in of_chain.linear if each.gain == gain]
        for position in range(3):
            shares = [each.quantiles[position] / each.norm for each in mine]
            # while the norms themselves differ up to 2e8 times
            assert max(shares) < 2 * min(shares)


def test_what_the_page_says_of_activations_is_so(of_chain: chain_experiment.ChainResult) -> None:
    per_layer = {kind.name: kind.per_layer for kind in of_chain.kinds}
    assert per_layer["sigmoid"] < 0.25  # its steepest slope
    for name in ("tanh", "ReLU"):
        assert 0.25 < per_layer[name] < 0.9
    for name in ("ReLU, kaiming_normal_", "ReLU, LayerNorm", "ReLU, x + f(x)", "sigmoid, x + f(x)"):
        assert 0.85 < per_layer[name] < 1.15
    assert per_layer["sigmoid"] < per_layer["sigmoid, LayerNorm"] < per_layer["sigmoid, x + f(x)"]


def test_clipping_leaves_the_ratio_of_the_layers(of_chain: chain_experiment.ChainResult) -> None:
    before, after = of_chain.clipped_before, of_chain.clipped_after
    assert after[1] == pytest.approx(before[1] / 2, rel=1e-3)
    assert after[0] / after[1] == pytest.approx(before[0] / before[1], rel=1e-4)


def test_accumulation_is_equal_to_rounding_when_it_is_weighted_right(
    of_accumulation: accumulation_experiment.AccumulationResult,
) -> None:
    for each in (of_accumulation.equal, of_accumulation.short_exact, of_accumulation.uneven_exact):
        assert each.error < 1e-5
        assert each.ratio == pytest.approx(1, rel=1e-5)
        assert each.cosine == pytest.approx(1, rel=1e-6)


def test_accumulation_without_division_is_four_times_as_large(
    of_accumulation: accumulation_experiment.AccumulationResult,
) -> None:
    assert of_accumulation.undivided.ratio == pytest.approx(4, rel=1e-5)
    assert of_accumulation.undivided.error == pytest.approx(3, rel=1e-5)
    assert of_accumulation.undivided.cosine == pytest.approx(1, rel=1e-6)


def test_short_and_uneven_micro_batches_that_count_the_same_are_wrong(
    of_accumulation: accumulation_experiment.AccumulationResult,
) -> None:
    for each in (of_accumulation.short_by_count, of_accumulation.uneven_by_count):
        assert each.error > 0.05
        assert each.cosine < 0.999


def test_a_quarter_of_the_batch_keeps_a_quarter_of_the_memory(
    of_accumulation: accumulation_experiment.AccumulationResult,
) -> None:
    assert of_accumulation.held_parts / of_accumulation.held_whole == pytest.approx(0.25, rel=0.05)
    # images and hidden units, at least
    assert of_accumulation.held_whole > accumulation_experiment.BATCH * (784 + 256) * 4


def test_without_clearing_gradients_are_a_sum_and_in_the_wrong_place_nothing_is_learnt(
    of_clearing: zero_grad_experiment.ZeroGradResult,
) -> None:
    assert of_clearing.sum_error < 1e-6
    assert of_clearing.right.losses[-1] < of_clearing.right.losses[0] / 1.5
    assert of_clearing.missing.norms[0] == of_clearing.right.norms[0]
    assert of_clearing.missing.norms[-1] > 3 * of_clearing.right.norms[-1]
    assert of_clearing.misplaced.moved == 0
    assert set(of_clearing.misplaced.norms) == {0.0}
    assert of_clearing.right.moved > 0


def test_set_to_none_holds_nothing_and_is_the_default(
    of_clearing: zero_grad_experiment.ZeroGradResult,
) -> None:
    assert of_clearing.to_none.held == 0
    assert of_clearing.to_zero.held == 4 * 2 * (
        zero_grad_experiment.WIDE**2 + zero_grad_experiment.WIDE
    )
    assert of_clearing.default is True
    for clearing in (of_clearing.to_none, of_clearing.to_zero):
        assert math.isfinite(clearing.zero_grad_s)
        assert clearing.backward_s > 0


def test_the_gradient_of_a_sum_is_the_sum_and_the_larger_one_decides() -> None:
    found = losses_experiment.measure()
    assert found.sum_error < 1e-5
    assert found.apart_error < 1e-5
    by_name = {p.name: p for p in found.parameters}
    for name, parameter in by_name.items():
        assert math.isnan(parameter.cosine) == (not name.startswith("shared"))
        assert [norm > 0 for norm in parameter.norms] == [
            not name.startswith("ink"),
            not name.startswith("digit"),
        ]
        assert math.isnan(parameter.cosine) or -1 <= parameter.cosine <= 1
    for position in range(2):
        assert math.hypot(*(p.norms[position] for p in found.parameters)) == pytest.approx(
            found.norms[position]
        )
    assert list(found.combined) == sorted(found.combined, reverse=True)
    assert found.combined[0] > 0.99
    assert found.combined[-1] < 0.1


def test_an_experiment_draws_no_random_numbers_of_the_programs() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    gradients_experiment.measure()
    assert torch.equal(torch.get_rng_state(), before)
    chain_experiment.measure()
    losses_experiment.measure()
    assert torch.equal(torch.get_rng_state(), before)
