from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seismograd.rules.sg403.sg403_frozen_parameter import FrozenParameter
from seismograd.schema import Finding, RowBatch, State
from tests.rules.cutting import codes, cut, result, row_by_row, status
from tests.synthetic import block, make_parameters

NAMES = [
    "body.0.weight",
    "body.0.bias",
    "body.2.weight",
    "body.2.bias",
    "body.4.weight",
    "body.4.bias",
    "head.weight",
    "head.bias",
]


def made(
    frozen: tuple[str, ...], num_steps: int = 20, names: list[str] = NAMES, **changes: object
) -> RowBatch:
    """A run in which the parameters that begin like one of these are frozen."""
    parameters = tuple(
        replace(p, trainable=not p.name.startswith(frozen)) if frozen else p
        for p in make_parameters(names=names)
    )
    parameters = tuple(replace(p, depth=p.depth if p.trainable else None) for p in parameters)
    state = np.tile(
        [State.FINITE if p.trainable else State.ABSENT for p in parameters], (num_steps, 1)
    )
    return block(np.ones(state.shape), **{"parameters": parameters, "state": state, **changes})  # type: ignore[arg-type]


def only(given_: RowBatch) -> Finding:
    (finding,), _ = result([given_])
    return finding


@pytest.mark.parametrize("frozen", ["head", "body.4", "body.2"])
@given(num_steps=st.integers(10, 40))
def test_a_frozen_layer_behind_trained_ones_is_found(frozen: str, num_steps: int) -> None:
    given_ = made((frozen,), num_steps)
    finding = only(given_)
    assert (finding.code, finding.severity, finding.first_step, finding.last_step) == (
        "SG403",
        "warning",
        0,
        num_steps - 1,
    )
    assert finding.parameters == (f"{frozen}.weight", f"{frozen}.bias")
    module = frozen.replace(".4", "[4]").replace(".2", "[2]")
    assert finding.excerpt.startswith(f"model.{module}.requires_grad_(True)  # ")
    assert codes(cut(given_, [10])[0]) == ["SG403"]
    assert result(row_by_row([given_]), rules=(FrozenParameter,)) == result(
        [given_], rules=(FrozenParameter,)
    )


@pytest.mark.parametrize("frozen", [("body.0",), ("body",), ("body.0", "body.2"), ()])
def test_a_frozen_backbone_is_healthy(frozen: tuple[str, ...]) -> None:
    assert codes(made(frozen)) == []


def test_a_frozen_copy_is_healthy() -> None:
    names = [f"{part}.{layer}.weight" for part in ("online", "target") for layer in range(3)]
    assert codes(made(("target",), names=names)) == []


@pytest.mark.parametrize("kind", ["LayerNorm", "BatchNorm2d", "Embedding", "Adapted"])
def test_other_modules_may_be_frozen(kind: str) -> None:
    given_ = made(("head",))
    parameters = tuple(
        replace(p, module=kind) if p.name.startswith("head") else p for p in given_.parameters
    )
    assert codes(replace(given_, parameters=parameters)) == []


def test_adapters_on_a_frozen_model_are_healthy() -> None:
    names = [f"{layer}.{part}.weight" for layer in range(4) for part in ("down", "base")]
    shapes = [(2, 64) if "down" in name else (64, 64) for name in names]
    parameters = tuple(
        replace(p, trainable="down" in p.name, depth=p.depth if "down" in p.name else None)
        for p in make_parameters(names=names, shapes=shapes)
    )
    state = np.tile([State.FINITE if p.trainable else State.ABSENT for p in parameters], (20, 1))
    assert codes(block(np.ones(state.shape), parameters=parameters, state=state)) == []


def test_what_is_frozen_only_for_a_time_is_healthy() -> None:
    given_ = made(("head",))
    given_.state[3, 6:] = State.FINITE
    assert codes(given_) == []


def test_what_is_frozen_in_the_turns_of_another_optimizer_is_healthy() -> None:
    """As `toggle_optimizer` does it: it has gradients in the rows in which it is not frozen."""
    turns = cut(made(("head",), 24), list(range(1, 24)))
    others = cut(made(("body",), 24), list(range(1, 24)))
    toggled = [
        other if row % 3 == 1 else turn
        for row, (turn, other) in enumerate(zip(turns, others, strict=True))
    ]
    findings, _ = result(toggled, rules=(FrozenParameter,))
    assert not findings
    findings, _ = result(turns, rules=(FrozenParameter,))
    assert [each.code for each in findings] == ["SG403"]


def test_a_flag_on_a_module_that_does_nothing_is_found() -> None:
    given_ = made(())
    parameters = tuple(
        replace(p, frozen_in_name=p.name.startswith("body")) for p in given_.parameters
    )
    finding = only(replace(given_, parameters=parameters))
    assert (finding.code, len(finding.parameters)) == ("SG403", 6)
    assert (
        finding.excerpt == "model.body.requires_grad_(False)  # instead of .requires_grad = False"
    )


def test_a_short_run_is_judged_at_its_end() -> None:
    assert codes(made(("head",), 3)) == ["SG403"]
    assert status(made(("head",), 2), "SG403").reason.render() == "needs 3 steps, has 2"


def test_an_encoder_before_a_frozen_decoder_is_healthy() -> None:
    names = [f"{part}.{layer}.weight" for part in ("encoder", "decoder") for layer in (0, 2)]
    shapes = [(32, 64), (16, 32), (32, 16), (64, 32)]
    parameters = tuple(
        replace(p, trainable=p.name.startswith("encoder"))
        for p in make_parameters(names=names, shapes=shapes)
    )
    assert codes(made((), names=names, parameters=parameters)) == []
