"""Text is broken into lines by what a terminal shows, not by the number of characters."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from seismograd.views.text_layout import cell_width, pad, wrap, wrap_code

WORDS = st.text(alphabet="ab ,.（梯度），。é", max_size=200)


@given(WORDS, st.integers(min_value=8, max_value=60))
def test_wrapping_keeps_every_character_but_white_space(text: str, width: int) -> None:
    assert "".join("".join(wrap(text, width)).split()) == "".join(text.split())


@given(st.text(alphabet="梯度消失 is ab", max_size=200), st.integers(min_value=8, max_value=60))
def test_no_line_is_wider_than_asked_where_words_are_short(text: str, width: int) -> None:
    words = text.split()
    if all(cell_width(word) <= width for word in words):
        assert all(cell_width(line) <= width for line in wrap(text, width))


def test_a_line_never_begins_with_a_closing_mark_nor_ends_with_an_opening_one() -> None:
    text = "梯度的范数在每一层都乘以零点三，（所以）到了输入层。" * 5
    for width in range(8, 40):
        lines = wrap(text, width)
        assert not any(line[0] in "，。）" for line in lines)
        assert not any(line[-1] in "（" for line in lines)


def test_english_words_stay_whole() -> None:
    assert wrap("the gradient vanishes", 10) == ["the", "gradient", "vanishes"]


def test_wide_characters_take_two_cells() -> None:
    assert cell_width("梯度 norm") == 9
    assert pad("梯度", 6) == "梯度  "


def test_nothing_wraps_to_nothing() -> None:
    assert wrap("", 10) == wrap("  \n ", 10) == []


def test_code_is_broken_at_spaces_and_its_later_lines_are_indented() -> None:
    code = "  nn.Linear(width, width), nn.LayerNorm(width)"
    assert wrap_code(code, 60) == [code]
    lines = wrap_code(code, 30)
    assert lines == ["  nn.Linear(width, width),", "      nn.LayerNorm(width)"]
