from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from seismograd.rules.sg401.sg401_parameter_not_optimized import ParameterNotOptimized
from seismograd.schema import (
    EventKind,
    Finding,
    Optimizer,
    Parameter,
    RowBatch,
    State,
    StepFlag,
)
from tests.rules.cutting import codes, cut, result, row_by_row, status
from tests.synthetic import block, make_parameters

NAMES = [f"net.{layer}.weight" for layer in range(6)]


def parameters(*forgotten: int, **changes: object) -> tuple[Parameter, ...]:
    """Six layers in order, some of which no optimizer holds."""
    made = make_parameters(names=NAMES)
    return tuple(
        replace(each, optimizer=None, group=None, **changes) if column in forgotten else each
        for column, each in enumerate(made)
    )  # type: ignore[arg-type]


def made(
    listed: tuple[Parameter, ...],
    num_steps: int = 30,
    weights: np.ndarray | None = None,
    **options: object,
) -> RowBatch:
    norms = np.ones((num_steps, len(listed)))
    sample_rows = list(range(0, num_steps, 10))
    steady = (
        np.ones((len(sample_rows), len(listed))) if weights is None else weights[: len(sample_rows)]
    )
    return block(
        norms,
        parameters=listed,
        sample_rows=sample_rows,
        samples={"weight_norm": steady},
        **options,
    )  # type: ignore[arg-type]


def only(given: RowBatch) -> Finding:
    (finding,), _ = result([given])
    return finding


@given(st.sets(st.integers(0, 4), min_size=1), st.integers(11, 40))
def test_what_no_optimizer_holds_is_found_in_the_order_of_execution(
    forgotten: set[int], num_steps: int
) -> None:
    given_ = made(parameters(*forgotten), num_steps)
    finding = only(given_)
    assert (finding.code, finding.severity, finding.first_step, finding.last_step) == (
        "SG401",
        "error",
        0,
        num_steps - 1,
    )
    assert finding.parameters == tuple(NAMES[column] for column in sorted(forgotten))
    assert codes(cut(given_, [11])[0]) == ["SG401"]
    assert result(row_by_row([given_]), rules=(ParameterNotOptimized,)) == result(
        [given_], rules=(ParameterNotOptimized,)
    )


def test_what_a_module_does_not_register_is_said() -> None:
    finding = only(made(parameters(1, 2, registered=False)))
    assert "plain list or dict `net`" in finding.cause.render()
    assert finding.excerpt.startswith("self.net = nn.ModuleList(self.net)")


def test_an_optimizer_of_another_model_is_said() -> None:
    stale = make_parameters(names=["optimizer.0", "optimizer.1"])
    listed = (*parameters(*range(6)), *stale)
    state = np.where(
        np.array([each.optimizer is None for each in listed]), State.FINITE, State.ABSENT
    )
    stepping = made(listed, state=np.tile(state, (30, 1)), flags=StepFlag.NO_BACKWARD)
    events = stepping.events.copy()
    events["touched"][events["kind"] == EventKind.BACKWARD] = 0
    finding = only(replace(stepping, events=events))
    assert finding.code == "SG401"
    assert "it was made for another model" in finding.cause.render()


def astray(num_steps: int = 30, flags: int = StepFlag.NO_BACKWARD) -> RowBatch:
    """An optimizer that steps on nothing, and a model that only the script itself may update."""
    held = make_parameters(names=["optimizer.0", "optimizer.1"])
    listed = (
        *(replace(each, optimizer=1) for each in parameters()),
        *(replace(each, depth=None) for each in held),
    )
    state = np.where(
        np.array([each.optimizer == 1 for each in listed]), State.NOT_MEASURED, State.ABSENT
    )
    stepping = made(listed, num_steps, state=np.tile(state, (num_steps, 1)), flags=flags)
    events = stepping.events.copy()
    events["touched"][events["kind"] == EventKind.BACKWARD] = 0
    return replace(
        stepping,
        events=events,
        optimizers=(Optimizer(0, "SGD", "optimizer"), Optimizer(1, "", "by hand")),
    )


def test_a_model_that_no_optimizer_has_ever_heard_of_is_found() -> None:
    finding = only(astray())
    assert (finding.code, finding.related, finding.parameters) == (
        "SG401",
        ("SG402",),
        tuple(NAMES),
    )
    assert result(row_by_row([astray()]), rules=(ParameterNotOptimized,)) == result(
        [astray()], rules=(ParameterNotOptimized,)
    )
    assert codes(astray(5)) == ["SG401"]
    assert "SG401" not in codes(astray(flags=StepFlag.NO_BACKWARD | StepFlag.BY_HAND))


def test_a_short_run_is_judged_at_its_end() -> None:
    assert codes(made(parameters(0), 5)) == ["SG401"]
    assert codes(made(parameters(0), 2)) == []


@given(st.integers(1, 60))
def test_parameters_that_an_optimizer_holds_are_healthy(num_steps: int) -> None:
    assert codes(made(parameters(), num_steps)) == []


def test_weights_that_the_script_moves_itself_are_healthy() -> None:
    weights = np.ones((3, 6))
    weights[:, 0] = [1.0, 0.9, 0.8]
    assert codes(made(parameters(0), weights=weights)) == []


def test_what_is_frozen_or_gets_no_gradient_is_healthy() -> None:
    assert codes(made(parameters(0, 1, trainable=False))) == []
    state = np.full((30, 6), State.FINITE)
    state[:, :2] = State.NOT_MEASURED
    assert codes(made(parameters(0, 1), state=state)) == []


def test_updates_by_hand_are_healthy() -> None:
    assert codes(made(parameters(*range(6)), flags=StepFlag.BY_HAND)) == []


def test_a_larger_network_behind_the_trained_one_is_a_note() -> None:
    (finding,), _ = result([made(parameters(2, 3, 4, 5))])
    assert finding.severity == "info"


def test_two_steps_are_not_evaluated() -> None:
    assert status(made(parameters(0), 2), "SG401").reason.render() == "needs 3 steps, has 2"
