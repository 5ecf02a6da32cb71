"""Where a setting comes from is shown with another number, where that number is known."""

from __future__ import annotations

import math

from seismograd.analysis.setting_sources import SettingSources
from seismograd.schema import Fact, FactKind


def test_a_rate_of_zero_has_no_factor() -> None:
    sources = SettingSources()
    text = "opt = SGD(net.parameters(), lr=args.lr)"
    values = {"text": text, "call": "SGD", "argument": "lr", "place": "a.py:3", "lr": 0.5}
    sources.learn(Fact(FactKind.OPTIMIZER_CREATED, 0, "a.py:9", 0, (), values))
    changed = sources.rate_times(0, 0.01, 5)
    assert changed is not None
    assert (changed.where, "lr=0.005" in changed.text) == ("a.py:3", True)
    assert sources.rate_times(0, math.nan, 5) is None
    assert sources.rate_times(1, 0.01, 5) is None
