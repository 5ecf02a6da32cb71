"""A clip by a norm that is not that of all gradients is found, on whichever process, and a clip by
the right one is not.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import seismograd
from tests.distributed.processes import HERE, start

pytestmark = [pytest.mark.ranks, pytest.mark.slow]

RIGHT = ("right", "in_two_calls", "replicas", "stages")
WRONG = {
    "averaged": ("error", "averaged, left out, or counted several times"),
    "undercounted": ("error", "which is that of what one rank holds"),
    "each_its_own": ("error", "by different factors"),
    "by_hand_each_its_own": ("error", "they clip by different norms"),
    "one_stage": ("error", "by different factors"),
    "before_reduction": ("error", "before they are reduced"),
    "some_of_them": ("warning", "covers 5 of the 6 parameters"),
}


def found(out: Path) -> list[tuple[str, str, str]]:
    run = seismograd.open_run(out)
    return [
        (each.code, each.severity, each.cause.render())
        for each in run.findings
        if not each.code.startswith("SG501")  # the limit is low on purpose
    ]


def test_right_and_wrong_norms_of_clips(tmp_path: Path) -> None:
    names = (*RIGHT, *WRONG)
    ended = start([str(HERE / "clips.py"), str(tmp_path), *names], 2, tmp_path)
    assert [each.code for each in ended] == [0, 0], ended[0].err[-3000:]
    for name in RIGHT:
        assert found(tmp_path / name) == [], name
    for name, (severity, words) in WRONG.items():
        codes = {code: (level, text) for code, level, text in found(tmp_path / name)}
        assert "SG502" in codes, (name, codes)
        assert codes["SG502"][0] == severity, name
        assert words in codes["SG502"][1], (name, codes["SG502"])
