"""Options that are on or off."""

from __future__ import annotations

import pytest

from seismograd.errors import SeismogradError
from seismograd.settings.levels import is_on


def test_a_switch_is_on_or_off() -> None:
    assert is_on("--replay", "on")
    assert not is_on("--replay", "off")
    with pytest.raises(SeismogradError, match="--replay is on or off, not 'maybe'"):
        is_on("--replay", "maybe")
