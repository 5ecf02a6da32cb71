from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seismograd.schema import EventKind, Finding, Optimizer, RowBatch, State, StepFlag
from tests.rules.cutting import codes, cut, result, status
from tests.rules.made import chain
from tests.synthetic import block, event, make_parameters


def with_carried(carried: np.ndarray, num_parameters: int = 4, **options: object) -> RowBatch:
    """A run where these steps used old gradients again  # (T,) or (T, P)."""
    whole = np.broadcast_to(np.reshape(carried, (len(carried), -1)), (len(carried), num_parameters))
    return block(np.ones((len(carried), num_parameters)), values={"carried": whole}, **options)  # type: ignore[arg-type]


def only(made: RowBatch) -> Finding:
    (finding,), _ = result([made])
    return finding


@given(st.integers(3, 60), st.integers(1, 12))
def test_gradients_that_are_never_cleared_are_found_in_the_third_step(
    num_steps: int, num_parameters: int
) -> None:
    made = with_carried(np.arange(num_steps) > 0, num_parameters)
    finding = only(made)
    assert (finding.code, finding.severity, finding.first_step, finding.last_step) == (
        "SG301",
        "error",
        1,
        num_steps - 1,
    )
    assert finding.parameters == tuple(parameter.name for parameter in made.parameters)
    assert "SG301" not in codes(cut(made, [2])[0])
    assert codes(cut(made, [3])[0]) == ["SG301"]


def test_it_says_where_and_what_to_insert() -> None:
    finding = only(with_carried(np.arange(5) > 0, optimizers=(Optimizer(0, "SGD", "opt"),)))
    assert finding.where == "train.py:12"
    assert finding.excerpt == "opt.zero_grad()  # before the backward"
    assert "call opt.zero_grad()" in finding.advice.render()
    assert "since step 1 opt has used gradients" in finding.cause.render()


def test_an_optimizer_whose_name_is_not_known_is_called_optimizer() -> None:
    finding = only(with_carried(np.arange(5) > 0, optimizers=(Optimizer(0, "SGD", "SGD"),)))
    assert finding.excerpt.startswith("optimizer.zero_grad()")


@given(st.integers(1, 60))
def test_gradients_that_are_cleared_are_never_found(num_steps: int) -> None:
    assert codes(with_carried(np.zeros(num_steps))) == []


@given(st.integers(0, 30), st.integers(31, 60))
def test_one_step_is_no_fault(position: int, num_steps: int) -> None:
    assert codes(with_carried(np.arange(num_steps) == position)) == []


@pytest.mark.parametrize("window", [2, 3, 4, 8])
def test_clearing_only_every_few_steps_is_found(window: int) -> None:
    assert codes(with_carried(np.arange(40) % window != 0)) == ["SG301"]


def test_a_step_without_a_backward_is_another_fault() -> None:
    flags = np.where(np.arange(20) % 3 != 0, StepFlag.NO_BACKWARD, 0)
    assert codes(with_carried(np.arange(20) % 3 != 0, flags=flags)) == []


def two_optimizers(
    carried: tuple[bool, bool], same_iteration: bool, same_line: bool = False
) -> RowBatch:
    """Two networks, step by step or in turn."""
    num_steps = 40
    parameters = tuple(
        replace(each, optimizer=column // 2) for column, each in enumerate(make_parameters(4))
    )
    turn = np.zeros(num_steps, int) if same_iteration else np.arange(num_steps) % 2
    own = (
        np.full((num_steps, 4), True)
        if same_iteration
        else turn[:, None] == (np.arange(4) // 2)[None]
    )
    events = [
        event(EventKind.STEP, row, site=0 if same_line else optimizer, optimizer=optimizer)
        for row in range(num_steps)
        for optimizer in ((0, 1) if same_iteration else (int(turn[row]),))
    ]
    return block(
        np.ones((num_steps, 4)),
        parameters=parameters,
        state=np.where(own, State.FINITE, State.NOT_MEASURED),
        values={"carried": own & np.repeat(carried, 2)[None] & (np.arange(num_steps) > 1)[:, None]},
        optimizer=turn,
        events=events,
        optimizers=(Optimizer(0, "Adam", "opt_d"), Optimizer(1, "Adam", "opt_g")),
    )


@pytest.mark.parametrize("same_iteration", [True, False])
def test_the_optimizer_that_is_not_cleared_is_named(same_iteration: bool) -> None:
    finding = only(two_optimizers((False, True), same_iteration))
    assert (finding.optimizer, finding.excerpt) == (1, "opt_g.zero_grad()  # before the backward")
    assert finding.parameters == ("net.1.weight", "net.1.bias")
    assert finding.where == "train.py:11"


@pytest.mark.parametrize("same_iteration", [True, False])
def test_two_optimizers_with_steps_in_two_places_are_two_findings(same_iteration: bool) -> None:
    findings, _ = result([two_optimizers((True, True), same_iteration)])
    assert sorted((finding.code, finding.optimizer, finding.where) for finding in findings) == [
        ("SG301", 0, "train.py:10"),
        ("SG301", 1, "train.py:11"),
    ]


def test_optimizers_that_step_at_one_line_are_one_finding() -> None:
    finding = only(two_optimizers((True, True), same_iteration=True, same_line=True))
    assert len(finding.parameters) == 4
    assert finding.excerpt == "opt_d.zero_grad()\nopt_g.zero_grad()  # before the backward"
    assert "since step 2 opt_d, opt_g have used gradients" in finding.cause.render()
    assert "call zero_grad() of each of opt_d, opt_g" in finding.advice.render()


def test_optimizers_of_a_list_are_cleared_in_a_loop() -> None:
    made = two_optimizers((True, True), same_iteration=True, same_line=True)
    listed = (Optimizer(0, "Muon", "optimizers[0]"), Optimizer(1, "Adam", "optimizers[1]"))
    assert only(replace(made, optimizers=listed)).excerpt == (
        "for optimizer in optimizers:\n    optimizer.zero_grad()  # before the backward"
    )


def test_a_parameter_that_comes_later_joins_the_finding() -> None:
    carried = np.zeros((30, 4))
    carried[1:, :2] = 1
    carried[20:, 2] = 1
    finding = only(with_carried(carried))
    assert (finding.first_step, finding.parameters) == (
        1,
        ("net.0.weight", "net.0.bias", "net.1.weight"),
    )


def test_it_explains_what_follows_from_it() -> None:
    norms = np.concatenate(
        [np.ones((5, 6)), 10.0 ** np.arange(30)[:, None] * np.ones((1, 6)), np.full((5, 6), np.nan)]
    )
    carried = np.broadcast_to((np.arange(40) > 0)[:, None], (40, 6))
    finding = only(block(norms, values={"carried": carried}, loss=np.arange(40.0)))
    assert (finding.code, finding.related) == ("SG301", ("SG102", "SG201"))


def test_what_was_there_before_it_is_not_explained() -> None:
    norms = chain(10, 0.1, steps=40)
    carried = np.broadcast_to((np.arange(40) > 20)[:, None], norms.shape)
    findings, _ = result([block(norms, values={"carried": carried})])
    assert [finding.code for finding in findings] == ["SG301", "SG101"]


def test_too_few_steps_are_not_evaluated() -> None:
    assert (
        status(with_carried(np.zeros(2)), "SG301").reason.render()
        == "needs 3 steps of one optimizer, has 2"
    )


def test_a_record_without_the_statistic_is_not_evaluated() -> None:
    made = block(np.ones((10, 2)))
    made = replace(
        made, values={name: values for name, values in made.values.items() if name != "carried"}
    )
    assert (
        status(made, "SG301").reason.render() == "needs statistics that were not recorded: carried"
    )


@given(st.integers(2, 4), st.integers(14, 40), st.integers(1, 13))
def test_what_is_cleared_now_and_then_is_said_since_the_first_step(
    window: int, num_steps: int, at: int
) -> None:
    carried = np.arange(num_steps) % window != 0
    made = with_carried(carried)
    last = int(np.flatnonzero(carried)[-1])
    finding = only(made)
    assert (finding.first_step, finding.last_step) == (1, last)
    assert result(cut(made, [at])) == result([made])
