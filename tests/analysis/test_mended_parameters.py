"""Statements that create optimizers are written with the parameters that they leave out."""

from __future__ import annotations

import ast
import re
from dataclasses import replace

import pytest

from seismograd.analysis.mended_parameters import pieces_of, with_parameters
from seismograd.rules.sg401.stray_code import code_for
from seismograd.rules.sg401.stray_words import LEFT_OUT, OTHER_MODEL, REPLACED
from seismograd.schema import Fact, FactKind, Parameter
from tests.synthetic import make_parameters


def known(held: str, strays: str, model: str = "model") -> tuple[Parameter, ...]:
    """Return parameters of one model, by the names of those that an optimizer holds or not."""
    made = make_parameters(names=[*held.split(), *strays.split()])
    num = len(held.split())
    return tuple(
        replace(p, root=0, model=model, optimizer=0 if at < num else None)
        for at, p in enumerate(made)
    )


def mended(text: str, parameters: tuple[Parameter, ...]) -> str:
    strays = [p for p in parameters if p.optimizer is None]
    return with_parameters(text, "Adam", pieces_of(text, "Adam", strays, parameters, 0))


@pytest.mark.parametrize(
    ("text", "more"),
    [
        ("opt = Adam(model.head.parameters(), 1e-3)", "[*model.head.parameters(), {}]"),
        ("self.opt = Adam(self.net.head.parameters())", "[*self.net.head.parameters(), {}]"),
        ("return optim.Adam(params=self.head.parameters())", "[*self.head.parameters(), {}]"),
        ("opt = Adam([m.head.weight, m.head.bias])", "[m.head.weight, m.head.bias, {}]"),
        (
            "opt = Adam([p for p in m.head.parameters()], lr)",
            "[*[p for p in m.head.parameters()], {}]",
        ),
        (
            "opt = Adam(filter(trains, m.head.parameters()), lr=lr)",
            "[*filter(trains, m.head.parameters()), {}]",
        ),
    ],
)
def test_one_argument_changes_and_the_rest_stays(text: str, more: str) -> None:
    root = re.findall(r"[\w.]+(?=\.head)", text)[0]
    written = mended(text, known("head.weight head.bias", "body.0.weight body.0.bias"))
    tree = ast.parse(text).body[0].value  # type: ignore[attr-defined]
    given = ast.unparse(tree.args[0] if tree.args else tree.keywords[0].value)
    assert written == text.replace(given, more.format(f"*{root}.body.parameters()"))


def test_groups_get_a_group_and_sums_a_term() -> None:
    parameters = known("head.weight", "body.weight scale")
    groups = 'opt = Adam([{"params": m.head.parameters(), "lr": 0.1}])'
    assert mended(groups, parameters).endswith(
        """{'params': m.head.parameters(), 'lr': 0.1}, """
        """{"params": m.body.parameters()}, {"params": [m.scale]}])"""
    )
    joined = "opt = Adam(list(m.head.parameters()) + rest)"
    assert mended(joined, parameters) == (
        "opt = Adam(list(m.head.parameters()) + rest + list(m.body.parameters()) + [m.scale])"
    )


def test_a_part_by_numbers_and_a_module_that_is_held_in_part() -> None:
    parameters = known("2.weight 4.a.weight", "0.weight 0.bias 4.b.weight")
    assert mended("opt = Adam(model[2:].parameters())", parameters) == (
        "opt = Adam([*model[2:].parameters(), *model[0].parameters(), *model[4].b.parameters()])"
    )


def test_another_model_is_named_where_the_statement_names_models_as_the_script_does() -> None:
    head = tuple(replace(p, root=1, model="head") for p in known("", "head.weight"))
    parameters = (*known("body.weight", ""), *head)
    assert mended("opt = Adam(model.parameters())", parameters) == (
        "opt = Adam([*model.parameters(), *head.parameters()])"
    )
    assert mended("opt = Adam(net.parameters())", parameters) == ""


@pytest.mark.parametrize(
    "text",
    [
        "opt = Adam(groups)",
        "opt = Adam(list(groups))",
        "opt = Adam(of(m.head.parameters()))",
        'opt = Adam(m.head.parameters(), name="…")',
        "opt = [Adam(m.head.parameters()), Adam(m.parameters())]",
        "opt = SGD(m.head.parameters())",
        "not python",
    ],
)
def test_what_may_hold_anything_is_left_alone(text: str) -> None:
    assert mended(text, known("head.weight", "body.weight")) == ""


def created(text: str) -> Fact:
    values = {"place": "train.py:9", "text": text, "call": "Adam", "class_name": "Adam"}
    return Fact(FactKind.OPTIMIZER_CREATED, 0, optimizer=0, values=values)


@pytest.mark.parametrize(
    ("kind", "text", "excerpt"),
    [
        (
            LEFT_OUT,
            "opt = Adam(of(model.head.weight))",
            'opt.add_param_group({"params": model.body.parameters()})  '
            "# after the line that creates opt",
        ),
        (
            REPLACED,
            "self.opt = Adam(self.model.parameters())",
            'self.opt.add_param_group({"params": self.model.body.parameters()})  '
            "# after the line that replaces self.model.body",
        ),
        (
            OTHER_MODEL,
            "opt = Adam(model.parameters(), lr=lr)",
            "opt = Adam(model.parameters(), lr=lr)  # after the last change to the model",
        ),
    ],
)
def test_the_place_is_where_the_optimizer_is_created(kind: int, text: str, excerpt: str) -> None:
    parameters = known("head.weight", "body.weight")
    code = code_for(kind, created(text), parameters[1:], parameters)
    assert code is not None
    assert (code.where, code.excerpt) == ("train.py:9", excerpt)


def test_a_function_with_names_of_its_own_shows_no_place() -> None:
    parameters = known("head.weight", "body.weight", "network")
    for kind in (REPLACED, OTHER_MODEL):
        code = code_for(kind, created("opt = Adam(net.parameters())"), parameters[1:], parameters)
        assert code is None


def test_adapters_are_there_after_peft_has_made_them() -> None:
    stray = replace(known("", "base.q.lora_A.default.weight")[0], model="model")
    code = code_for(OTHER_MODEL, created("opt = Adam(model.parameters())"), [stray], [stray])
    assert code is not None
    assert code.excerpt.endswith("# after get_peft_model")
