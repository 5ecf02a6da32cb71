"""A rule's findings as a run goes on."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from seismograd.analysis.finding_tracker import FindingTracker
from seismograd.i18n import Message
from seismograd.schema import Finding


def finding(step: int, optimizer: int = -1, where: str = "") -> Finding:
    text = Message("x")
    return Finding(
        "SG999", "tried", "error", optimizer, step, step, (), (), text, text, where=where
    )


def test_what_is_taken_is_new_or_has_changed_since() -> None:
    tracker = FindingTracker()
    assert not tracker
    assert tracker.take() == []
    tracker.add(finding(3, optimizer=1))
    tracker.add(finding(4, optimizer=0))
    assert tracker.take() == [finding(3, optimizer=1), finding(4, optimizer=0)]
    assert tracker.take() == []
    tracker.extend(9, optimizer=0)
    assert tracker.take() == [replace(finding(4, optimizer=0), last_step=9)]
    assert 1 in tracker
    assert 2 not in tracker
    assert tracker.get(1) == finding(3, optimizer=1)
    assert tracker.get(2) is None


@given(st.lists(st.integers(0, 50), min_size=1))
def test_the_first_finding_stays_and_the_last_step_never_moves_back(steps: list[int]) -> None:
    tracker = FindingTracker()
    for number, step in enumerate(steps):
        tracker.add_or_extend(finding(step, where=str(number)))
    assert tracker.take() == [replace(finding(steps[0], where="0"), last_step=max(steps))]


def test_the_only_finding_grows_without_saying_which() -> None:
    tracker = FindingTracker()
    tracker.add(finding(2, optimizer=5))
    tracker.extend(7)
    assert [each.last_step for each in tracker] == [7]
