"""The text of every finding reads well with one thing and with two, in both languages."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest

import seismograd
from seismograd.i18n import THE_OPTIMIZER, Value, fill, translate, use_language
from tests.test_catalogues import extracted

SOURCE = Path(seismograd.__file__).parent
TEXTS = sorted(
    text
    for text, where in extracted().items()
    if re.search(r"rules/|analysis/", where) and re.search(r"\{\w+", text)
)
# places for how many there are of something, where it may be one
COUNTS = {"num", "count", "held", "left", "gone", "more", "norms", "dropouts", "skipped"}
# `num` that is, for the reason that stands there
OF_SEVERAL = re.compile(
    r"\{num\} (micro-batches|single samples)"  # of a window that accumulates
    r"|\{num\} (times that|times before|times as high)"
    r"|^the learning rate is 0 since"  # calls after it
    r"|of \{num\} additions"  # to at least two places, each named twice
    r"|^in \{num\} weights"  # one weight has a text of its own
    r"|^the gradients of \{num\} parameters"
    r"|^\{num\} steps have been skipped"
    r"|\{num\} times$"
)
SINGULAR = re.compile(r"\b1 (?:[a-z-]+ ){0,1}?([a-z-]+[^s\W]s)\b")
VERBS = {"loses", "stays", "gets", "needs", "uses"}


class Values(dict[str, Value]):
    """Counts are `num` where they may be; the rest is a name, or a number that is no count."""

    def __init__(self, num: int, text: str) -> None:
        super().__init__()
        self.num = 7 if OF_SEVERAL.search(text) else num

    def __missing__(self, name: str) -> Value:
        return self.num if name in COUNTS else "optimizer"


def filled(text: str, num: int) -> str:
    """The text with as many things; documentation says thresholds, which are given as numbers."""
    values = Values(num, text)
    for _, name, spec, _ in string.Formatter().parse(text):
        if name and spec and "|" not in spec and spec != "the":
            values[name] = 7.0  # a number with a format is a measure, not a count
    return fill(translate(text), values)


def test_a_word_goes_with_its_number() -> None:
    text = "{num} {num:step|steps} of {optimizer:the}"
    assert fill(text, {"num": 1, "optimizer": "opt"}) == "1 step of opt"
    assert fill(text, {"num": 2, "optimizer": "optimizer"}) == f"2 steps of {THE_OPTIMIZER}"


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("num", [1, 2])
def test_every_text_can_be_said_of_one_and_of_two(lang: str, num: int) -> None:
    with use_language(lang):
        for text in TEXTS:
            said = filled(text, num)
            assert said
            assert not re.search(r"\{|\}|\|", re.sub(r"`[^`]*`", "", said)) or "{" in text


def test_no_text_says_one_of_several() -> None:
    wrong = [
        f"{match[0]}: {text}"
        for text in TEXTS
        # not documentation, whose numbers are thresholds
        if not text[:1].isupper() and not text.startswith("- ")
        for match in SINGULAR.finditer(filled(text, 1))
        if match[1] not in VERBS
    ]
    assert wrong == []
