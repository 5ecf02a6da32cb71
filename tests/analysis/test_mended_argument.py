"""A setting is changed where the script gives it, and nothing else of the statement is."""

from __future__ import annotations

import math

import pytest

from seismograd.analysis.mended_argument import with_argument, with_factor, with_flag


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        ("opt = Adam(net.parameters(), lr=0.1)", "opt = Adam(net.parameters(), lr=0.001)"),
        ("opt = Adam(net.parameters(), 0.1)", "opt = Adam(net.parameters(), 0.001)"),
        ("opt = Adam(net.parameters(), lr=args.lr)", "opt = Adam(net.parameters(), lr=0.005)"),
        (
            "return [Adam(net.parameters(), eps=1.0)]",
            "return [Adam(net.parameters(), eps=1.0, lr=0.005)]",
        ),
        (
            "opt = Adam([{'params': a, 'lr': 0.3}, {'params': b, 'lr': top}])",
            "opt = Adam([{'params': a, 'lr': 0.003}, {'params': b, 'lr': 0.01 * top}])",
        ),
        ("opt = Adam(net.parameters(), lr=0.1, name='…')", "Adam(..., lr=0.001)"),
        ("both = [Adam(a, lr=0.1), Adam(b, lr=0.1)]", ""),
        ("opt = make(net)", ""),
    ],
)
def test_a_learning_rate_is_a_hundredth(text: str, mended: str) -> None:
    assert with_argument(text, "Adam", "lr", 0.01, 0.5) == mended


def test_what_is_not_known_is_not_made_up() -> None:
    assert with_argument("o = SGD(w)", "SGD", "weight_decay", 0.01, math.nan) == ""
    text = "s = OneCycleLR(o, max_lr=top)"
    scaled = "s = OneCycleLR(o, max_lr=0.1 * top)"
    assert with_argument(text, "OneCycleLR", "max_lr", 0.1, math.nan) == scaled


def test_a_rate_that_the_script_writes_itself_is_multiplied() -> None:
    assert with_factor("group['lr'] = rate(step)", 0.1) == "group['lr'] = 0.1 * rate(step)"
    assert with_factor("group['lr'] *= 2", 0.1) == ""


def test_a_flag_is_given_or_left_out() -> None:
    text = "self.rnn = nn.GRU(8, 16, batch_first=False)"
    assert with_flag(text, "GRU", "batch_first", True) == (
        "self.rnn = nn.GRU(8, 16, batch_first=True)"
    )
    assert with_flag(text, "GRU", "batch_first", False) == "self.rnn = nn.GRU(8, 16)"
    assert with_flag(text, "LSTM", "batch_first", True) == ""
    assert with_flag("a, b = nn.GRU(1, 1), nn.GRU(2, 2)", "GRU", "batch_first", True) == ""
