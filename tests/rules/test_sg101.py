from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seismograd.rules import VanishingGradient
from seismograd.schema import Finding, Optimizer, Parameter, RowBatch, State
from tests.rules.cutting import codes, result, status
from tests.rules.made import chain, weights_only
from tests.synthetic import block, make_parameters

ADAM = (Optimizer(0, "Adam", "optimizer"),)  # under which a large gradient is not a large update
SIGMOID = 0.14  # what a layer passes on


def only(made: RowBatch) -> Finding:
    (finding,), _ = result([made])
    return finding


@given(
    num_layers=st.integers(6, 40),
    scale=st.integers(-25, 25),
    noise=st.floats(0, 0.15),
    seed=st.integers(0, 2**32),
    steps=st.integers(10, 60),
)
def test_a_steady_decay_is_found_at_any_depth_and_scale(
    num_layers: int, scale: int, noise: float, seed: int, steps: int
) -> None:
    made = block(
        chain(num_layers, SIGMOID, steps=steps, scale=10.0**scale, noise=noise, seed=seed),
        optimizers=ADAM,
    )
    finding = only(made)
    assert finding.code == "SG101"
    assert (finding.first_step, finding.last_step) == (0, steps - 1)
    assert finding.parameters[0] == "net.0.weight"
    assert f"net.{num_layers - 1}.weight" not in finding.parameters


@given(scale=st.integers(-30, 30), seed=st.integers(0, 2**32))
def test_the_scale_of_all_gradients_changes_nothing_but_the_norms(scale: int, seed: int) -> None:
    small, large = (chain(8, SIGMOID, seed=seed, scale=factor) for factor in (1.0, 2.0**scale))
    one, other = only(block(small, optimizers=ADAM)), only(block(large, optimizers=ADAM))
    gains = [each.cause.render().partition(": its norm")[0] for each in (one, other)]
    assert gains[0] == gains[1]
    assert one.parameters == other.parameters
    assert (one.severity, one.first_step, one.last_step) == (
        other.severity,
        other.first_step,
        other.last_step,
    )


@given(
    num_layers=st.integers(1, 60),
    gain=st.floats(0.9, 1.1),
    scale=st.integers(-30, 30),
    noise=st.floats(0, 0.5),
    seed=st.integers(0, 2**32),
)
def test_layers_that_pass_on_what_they_get_are_never_found(
    num_layers: int, gain: float, scale: int, noise: float, seed: int
) -> None:
    assert (
        codes(
            block(
                chain(num_layers, gain, scale=10.0**scale, noise=noise, seed=seed), optimizers=ADAM
            )
        )
        == []
    )


@pytest.mark.parametrize(("num_layers", "gain"), [(8, 0.7), (12, 0.5), (5, 0.2), (20, 0.7)])
def test_a_mild_gain_is_no_fault(num_layers: int, gain: float) -> None:
    assert codes(block(chain(num_layers, gain, steps=100))) == []


def test_the_evidence_is_in_the_record() -> None:
    made = block(chain(11, SIGMOID))
    finding = only(made)
    columns = {parameter.name: column for column, parameter in enumerate(made.parameters)}
    first, last, gain, total, fit = finding.evidence
    for each in (first, last):
        assert each.value == made.values["grad_norm"][each.step, columns[each.parameter]]
    assert (first.parameter, last.parameter) == ("net.0.weight", "net.10.weight")
    assert first.value < first.limit
    assert last.value > last.limit
    assert gain.value == pytest.approx(SIGMOID, rel=0.1)
    assert total.value == pytest.approx(gain.value**10, rel=1e-6)
    assert total.value < total.limit
    assert fit.value > fit.limit
    one_pair = (first.value / last.value) ** (1 / 10)
    assert finding.cause.render() == (
        f"each of the 10 layers multiplies the gradient by {one_pair:.2g} on average: its norm is "
        f"{last.value:.3g} at net.10.weight and {first.value:.3g} at net.0.weight"
    )
    assert "learning rate does not help" in finding.advice.render()


def test_a_few_steps_at_the_start_are_no_fault() -> None:
    norms = np.concatenate([chain(10, SIGMOID, steps=9), chain(10, 1.0, steps=60)])
    assert codes(block(norms)) == []


def test_what_recovers_is_worth_a_mention_and_no_more() -> None:
    norms = np.concatenate([chain(10, SIGMOID, steps=15), chain(10, 1.0, steps=60)])
    finding = only(block(norms))
    assert (finding.severity, finding.first_step, finding.last_step) == ("info", 0, 14)
    assert "after step 14 the network recovered" in finding.cause.render()


def test_what_begins_later_is_dated() -> None:
    norms = np.concatenate([chain(10, 1.0, steps=30), chain(10, SIGMOID, steps=30)])
    finding = only(block(norms))
    assert (finding.severity, finding.first_step, finding.last_step) == ("warning", 30, 59)


def test_a_slower_decay_needs_more_steps() -> None:
    assert codes(block(chain(14, 0.42, steps=39))) == []
    norms = np.concatenate([chain(14, 0.42, steps=39), chain(14, 1.0, steps=21)])
    assert codes(block(norms)) == []
    assert codes(block(np.concatenate([chain(14, 0.42, steps=40), chain(14, 0.42, steps=21)]))) == [
        "SG101"
    ]


def test_a_run_of_five_steps_is_enough_when_all_show_it() -> None:
    assert codes(block(chain(10, SIGMOID, steps=5))) == ["SG101"]
    assert codes(block(chain(10, SIGMOID, steps=4))) == []
    assert (
        status(block(chain(10, SIGMOID, steps=4)), "SG101").reason.render()
        == "needs 5 steps with finite gradients in 4 layers, has 4"
    )


def test_layers_that_get_exactly_nothing_make_it_an_error() -> None:
    norms = chain(12, 0.05, scale=1e-1)
    norms[:, :8] = 0
    finding = only(block(norms))
    assert (finding.code, finding.severity) == ("SG101", "error")
    assert finding.parameters[:4] == (
        "net.0.weight",
        "net.1.weight",
        "net.2.weight",
        "net.3.weight",
    )
    cause = finding.cause.render()
    assert "exactly zero in the first layers, from net.0.weight on" in cause
    assert "(layers with zero gradient: 4)" in cause


def test_zeros_without_a_decay_towards_them_are_another_fault() -> None:
    norms = chain(12, 0.9)
    norms[:, :8] = 0
    assert codes(block(norms)) == []


def test_the_norm_over_all_parameters_may_look_normal() -> None:
    made = block(chain(11, SIGMOID, scale=0.4))
    assert 0.3 < made.steps["grad_norm"].mean() < 0.6
    assert codes(made) == ["SG101"]


def test_small_initial_weights_are_seen_by_the_biases_that_keep_the_signal() -> None:
    norms = np.tile(
        np.where(np.arange(16) % 2, np.repeat(0.06 ** np.arange(7, -1, -1), 2), 1e-9), (20, 1)
    )
    assert codes(block(norms)) == ["SG101"]
    assert codes(block(norms[:, ::2], parameters=weights_only(8))) == []


def ordinary(
    names: list[str],
    shapes: list[tuple[int, ...]],
    norms: list[float],
    modules: list[str] | None = None,
) -> RowBatch:
    parameters: tuple[Parameter, ...] = make_parameters(names=names, shapes=shapes)
    if modules is not None:
        parameters = tuple(
            replace(each, module=module) for each, module in zip(parameters, modules, strict=True)
        )
    return block(np.tile(norms, (80, 1)), parameters=parameters)


def test_embeddings_normalisation_and_biases_do_not_count_as_depth() -> None:
    names = [
        "emb.weight",
        *(f"{i}.norm.weight" for i in range(6)),
        *(f"{i}.weight" for i in range(6)),
    ]
    shapes = [(1000, 8), *[(8,)] * 6, *[(8, 8)] * 6]
    norms = [1e-9, *10.0 ** np.arange(-8, -2), *[1.0] * 6]
    assert (
        codes(ordinary(names, shapes, norms, ["Embedding", *["LayerNorm"] * 6, *["Linear"] * 6]))
        == []
    )


def test_biases_before_a_normalisation_whose_gradient_is_rounding_are_no_fault() -> None:
    norms = np.repeat([[1.0, 1e-9]], 8, axis=0).ravel()
    norms[-1] = 0.5
    assert codes(block(np.tile(norms, (80, 1)))) == []


def test_absent_gradients_are_not_vanished_ones() -> None:
    made = block(chain(10, 1.0, steps=60))
    for columns in (slice(0, 8), slice(4, 12)):
        state = made.state.copy()
        state[:, columns] = State.ABSENT
        assert codes(replace(made, state=state)) == []


def test_a_converged_run_is_no_fault() -> None:
    assert codes(block(1e-7 * chain(8, 0.8, steps=100, noise=0.4), loss=3e-7)) == []


def test_branches_that_begin_at_zero_are_no_fault() -> None:
    norms = chain(12, 1.0, steps=60)
    norms[0, ::4] = 0  # every other weight
    norms[1:5, ::4] *= 1e-4
    assert codes(block(norms)) == []


def test_one_head_that_begins_at_zero_is_a_cliff_and_no_decay() -> None:
    norms = chain(10, 1.0, steps=80) * 1e-6
    norms[:, -2:] = 1.0
    assert codes(block(norms)) == []


def test_steps_with_nonfinite_gradients_are_left_out() -> None:
    norms = chain(10, SIGMOID, steps=40)
    norms[5:] = np.nan
    made = block(norms)
    assert "SG101" not in codes(replace(made, steps=_skipped(made)))


def _skipped(made: RowBatch) -> np.ndarray:
    steps = made.steps.copy()
    steps["flags"][4:] = 1
    return steps


def test_two_networks_are_judged_apart() -> None:
    both = np.concatenate([chain(8, SIGMOID, steps=60), chain(8, 1.0, steps=60)], axis=1)
    parameters = tuple(
        replace(each, optimizer=column // 16) for column, each in enumerate(make_parameters(32))
    )
    turn = np.arange(60) % 2
    state = np.where(turn[:, None] == (np.arange(32) // 16)[None], State.FINITE, State.NOT_MEASURED)
    finding = only(block(both, parameters=parameters, state=state, optimizer=turn))
    assert (finding.code, finding.optimizer) == ("SG101", 0)
    assert (finding.first_step, finding.last_step) == (0, 58)


def test_other_thresholds_decide_otherwise() -> None:
    made = block(chain(5, 0.2, steps=60))
    assert codes(made) == []
    findings, _ = result(
        [made], rules=(lambda: VanishingGradient(max_total_gain=0.01, max_visible_gain=0.01),)
    )
    assert [finding.code for finding in findings] == ["SG101"]


@pytest.mark.parametrize("num_layers", [0, 1, 3])
def test_too_few_layers_are_not_evaluated(num_layers: int) -> None:
    assert (
        status(block(np.ones((30, 2 * num_layers))), "SG101").reason.render()
        == f"needs 4 layers, has {num_layers}"
    )
