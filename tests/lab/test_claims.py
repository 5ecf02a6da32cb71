"""What each experiment says is so in its own numbers. No test asserts a time."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from seismograd.lab.digits import cut, digits, small_net
from seismograd.lab.measurements import (
    accumulation_experiment,
    chain_experiment,
    clipping_experiment,
    gradients_experiment,
    losses_experiment,
    norm_experiment,
    zero_grad_experiment,
)


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


@pytest.fixture(scope="module")
def of_clipping() -> clipping_experiment.ClippingResult:
    return clipping_experiment.measure()


@pytest.fixture(scope="module")
def of_norms() -> norm_experiment.NormResult:
    return norm_experiment.measure()


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


def test_clearing_once_in_an_epoch_is_worse_for_most_of_the_steps(
    of_clearing: zero_grad_experiment.ZeroGradResult,
) -> None:
    for wrong in (of_clearing.missing, of_clearing.each_epoch):
        # The chart must not tell a learner the opposite of what the page says.
        later = list(zip(wrong.losses, of_clearing.right.losses, strict=True))
        later = later[zero_grad_experiment.EPOCH :]
        assert sum(a > b for a, b in later) > 0.9 * len(later)
        assert sum(wrong.losses[-10:]) > 3 * sum(of_clearing.right.losses[-10:])
        assert wrong.losses[:2] == of_clearing.right.losses[:2]  # the sum begins with the second


def test_the_calls_of_a_step_do_to_one_scalar_what_the_three_verbs_say(
    of_clearing: zero_grad_experiment.ZeroGradResult,
) -> None:
    first, second, clipped, stepped, cleared = of_clearing.trace
    images, labels = digits(2 * zero_grad_experiment.BATCH)
    apart: list[float] = []
    whole: list[torch.Tensor] = []
    for inputs, targets in cut(images, labels, zero_grad_experiment.BATCH):
        model = small_net()
        (F.cross_entropy(model(inputs), targets) / 2).backward()
        assert model.fc2.weight.grad is not None
        apart.append(float(model.fc2.weight.grad[zero_grad_experiment.TRACED]))
        whole += [torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])]
    assert first.gradient == apart[0]
    assert second.gradient == pytest.approx(sum(apart))
    factor = zero_grad_experiment.CLIPPED_TO / float((whole[0] + whole[1]).norm())
    assert factor < 1
    assert clipped.gradient == pytest.approx(factor * sum(apart), rel=1e-4)
    assert stepped.gradient == clipped.gradient
    assert first.weight == second.weight == clipped.weight
    assert stepped.weight == pytest.approx(
        clipped.weight - zero_grad_experiment.LEARNING_RATE * (clipped.gradient or 0)
    )
    assert (cleared.gradient, cleared.weight) == (None, stepped.weight)


def test_clipping_by_norm_keeps_the_direction_and_by_value_does_not(
    of_clipping: clipping_experiment.ClippingResult,
) -> None:
    assert of_clipping.by_norm.cosine == pytest.approx(1)
    assert of_clipping.by_value.cosine < 0.95
    assert of_clipping.by_norm.norm == pytest.approx(of_clipping.by_value.norm, rel=1e-5)
    assert of_clipping.factor == pytest.approx(
        of_clipping.max_norm / (of_clipping.norm + 1e-6), rel=1e-5
    )
    assert of_clipping.factor_spread < 1e-5
    for scalar in of_clipping.scalars:
        limit = of_clipping.max_value
        assert scalar.by_norm == pytest.approx(of_clipping.factor * scalar.before)
        assert scalar.by_value == pytest.approx(max(-limit, min(limit, scalar.before)))
    assert {abs(s.before) > of_clipping.max_value for s in of_clipping.scalars} == {True, False}


def test_clipping_saves_the_training_from_one_batch_and_too_late_changes_nothing(
    of_clipping: clipping_experiment.ClippingResult,
) -> None:
    bad = clipping_experiment.BAD_STEP
    assert of_clipping.clipped_late.losses == of_clipping.unclipped.losses
    assert of_clipping.clipped.losses[0] == of_clipping.unclipped.losses[0]
    assert of_clipping.unclipped.losses[bad + 1] > 20 * of_clipping.clipped.losses[bad + 1]
    assert of_clipping.clipped.losses[bad + 1] < of_clipping.clipped.losses[0]
    for norm, factor in zip(of_clipping.clipped.norms, of_clipping.clipped.factors, strict=True):
        assert factor == pytest.approx(min(1.0, clipping_experiment.MAX_NORM / norm), rel=1e-4)


def test_a_norm_says_nothing_by_itself_and_hides_a_dead_layer(
    of_norms: norm_experiment.NormResult,
) -> None:
    plain, up, down = of_norms.plain, of_norms.scaled_up, of_norms.scaled_down
    assert up.norm == pytest.approx(1000 * plain.norm, rel=0.01)
    assert down.norm == pytest.approx(plain.norm / 1000, rel=0.01)
    variants = (plain, up, down, of_norms.small_batch, of_norms.narrow, of_norms.wide)
    assert all(each.last_loss < 0.7 * each.first_loss for each in variants)
    assert up.last_loss == pytest.approx(plain.last_loss, rel=0.01)
    assert of_norms.small_batch.norm > plain.norm
    assert of_norms.narrow.norm < plain.norm < of_norms.wide.norm
    dead = of_norms.dead
    assert dead.norms["0.weight"] == dead.norms["0.bias"] == 0
    assert of_norms.alive.norms["0.weight"] > 0
    # far from vanishing: within a factor of a few of the healthy one
    assert 0.2 * of_norms.alive.total < dead.total < of_norms.alive.total
    assert dead.last_loss == pytest.approx(math.log(10), abs=0.05)
    assert of_norms.alive.last_loss < 1
    for each in (of_norms.alive, dead):
        assert math.hypot(*each.norms.values()) == pytest.approx(each.total)


def test_an_update_is_w_minus_lr_times_g(
    of_gradients: gradients_experiment.GradientsResult,
) -> None:
    block = of_gradients.block
    assert block.error < 1e-7
    assert len(block.weight) == 10
    for row in range(10):
        for column in range(gradients_experiment.CORNER):
            assert block.updated[row][column] == pytest.approx(
                block.weight[row][column]
                - gradients_experiment.LEARNING_RATE * block.gradient[row][column],
                abs=1e-7,
            )
    flat = [abs(value) for row in of_gradients.unit_gradient for value in row]
    assert len(flat) == 784
    # The largest scalar of the whole parameter is in the picture of its unit.
    assert max(flat) == pytest.approx(of_gradients.parameters[0].largest)
    assert "..." in of_gradients.printed


def test_a_factor_of_the_product_is_the_root_mean_square_of_the_singular_values(
    of_chain: chain_experiment.ChainResult,
) -> None:
    factors = {each.name: each for each in of_chain.factors}
    for each in factors.values():
        assert each.measured == pytest.approx(each.predicted, rel=0.03)
        low, middle, high = each.singular
        assert low <= middle <= high
        assert each.eigen[1] <= high * (1 + 1e-9)
    assert factors["orthogonal × 0.9"].singular == pytest.approx((0.9, 0.9, 0.9))
    assert factors["nn.Linear"].predicted == pytest.approx(1 / math.sqrt(3), rel=0.02)
    assert factors["kaiming_normal_"].predicted == pytest.approx(math.sqrt(2), rel=0.02)


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
