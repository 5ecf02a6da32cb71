"""An element is named as one would index a tensor."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seismograd.errors import SeismogradError
from seismograd.settings.elements import ElementSpec, parse_element


@given(
    st.from_regex(r"[a-z_][a-z0-9_]{0,8}(\.[a-z0-9_]{1,8}){0,3}", fullmatch=True),
    st.lists(st.integers(-(10**6), 10**6), max_size=4),
)
def test_what_is_written_is_read_back(parameter: str, index: list[int]) -> None:
    spec = ElementSpec(parameter, tuple(index))
    assert parse_element(str(spec)) == spec


@pytest.mark.parametrize(
    "text", ["fc1.weight[0][3]", " fc1.weight[0, 3] ", "fc1.weight[ 0,3]", "fc1.weight[+0,3]"]
)
def test_ways_of_indexing_mean_the_same(text: str) -> None:
    assert parse_element(text) == ElementSpec("fc1.weight", (0, 3))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fc1.weight",
        "[0]",
        "fc1.weight[0",
        "fc1.weight[0]]",
        "fc1.weight[a]",
        "fc1.weight[0.5]",
        "fc1.weight[0,]",
        "fc1.weight[0] x",
        "fc1.weight[:,0]",
        "w[" + "9" * 5000 + "]",
        "[[0]]",
    ],
)
def test_anything_else_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(SeismogradError) as caught:
        parse_element(text)
    assert "\n" not in caught.value.line()
    assert caught.value.exit_code == 2


def test_negative_indices_count_from_the_end() -> None:
    assert parse_element("w[-1,0]").within((3, 2)) == ElementSpec("w", (2, 0))


def test_a_scalar_parameter_has_one_element() -> None:
    assert parse_element("scale[]").within(()) == ElementSpec("scale", ())


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("w[0]", (2, 2)),
        ("w[0,0,0]", (2, 2)),
        ("w[2,0]", (2, 2)),
        ("w[-3,0]", (2, 2)),
        ("w[]", (1,)),
        ("w[0]", (0,)),
    ],
)
def test_an_index_outside_the_shape_is_refused(text: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(SeismogradError, match=r"\[.*\]"):
        parse_element(text).within(shape)
