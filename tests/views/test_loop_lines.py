"""The loop as it was written: which lines were called, in which order, how often."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from seismograd.record.reader import open_run
from seismograd.schema import AnyArray, EventKind
from seismograd.views.page_api.loop_lines import loop_lines
from tests.synthetic import block, event, ordinary_events, write_run


def lines_of(path: Path, num_steps: int, events: list[AnyArray]) -> list[tuple[str, int, int]]:
    made = block(np.ones((num_steps, 2)), events=events)
    answer = loop_lines(open_run(write_run(path, [made])))
    assert answer["steps"] == min(num_steps, 200)
    lines = answer["lines"]
    assert isinstance(lines, list)
    return [(each["kind"], each["site"], each["count"]) for each in lines]


@pytest.mark.parametrize("num_steps", [3, 500])
def test_the_plain_loop_is_three_lines_in_their_order(tmp_path: Path, num_steps: int) -> None:
    found = lines_of(tmp_path / "run", num_steps, ordinary_events(num_steps))
    num = min(num_steps, 200)
    assert found == [("ZERO_GRAD", 0, num), ("BACKWARD", 1, num), ("STEP", 2, num)]


def test_a_verb_that_no_line_called_is_named(tmp_path: Path) -> None:
    events = [each for each in ordinary_events(6) if each["kind"] != EventKind.ZERO_GRAD]
    found = lines_of(tmp_path / "run", 6, events)
    assert found[0] == ("ZERO_GRAD", -1, 0)
    assert [kind for kind, _, _ in found] == ["ZERO_GRAD", "BACKWARD", "STEP"]


def test_accumulation_counts_every_backward_of_its_line(tmp_path: Path) -> None:
    events = [
        each
        for step in range(5)
        for each in (
            event(EventKind.ZERO_GRAD, step, site=0),
            *[event(EventKind.BACKWARD, step, site=1, value=1.0)] * 4,
            event(EventKind.STEP, step, site=2),
        )
    ]
    assert lines_of(tmp_path / "run", 5, events)[1] == ("BACKWARD", 1, 20)
