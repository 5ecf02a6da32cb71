"""What a group of steps says of lost updates, and what it does not."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from seismograd.analysis.lost_updates import LostUpdateTrack


def after(*shares: float, last: float) -> LostUpdateTrack:
    unused: Any = SimpleNamespace(number=len(shares))
    track = LostUpdateTrack(unused, 0, unused, list(shares))
    track.unmoved = [last]  # type: ignore[assignment]
    return track


@pytest.mark.parametrize(
    ("shares", "last", "expected"),
    [
        ((0.95, 0.95), 0.95, True),
        ((0.95, 0.95), 0.5, False),
        ((0.95, 0.5), 0.95, False),
        ((0.95,), 0.95, False),
        ((0.95, 0.95), math.nan, False),
        ((math.nan, 0.95), 0.95, False),
        ((0.95, math.nan), 0.95, False),
    ],
)
def test_each_of_the_first_groups_and_the_last_has_to_be_lost(
    shares: tuple[float, ...], last: float, expected: bool
) -> None:
    assert after(*shares, last=last).is_lost(2, 0.9) is expected
