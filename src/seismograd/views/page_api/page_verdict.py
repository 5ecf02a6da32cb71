"""The verdict of a run for the page: what is known of it, or judged now where that is quick, else
as it was found while the run went on.
"""

from __future__ import annotations

from seismograd.diagnosis.verdict import Verdict, judge, known_verdict, recorded_verdict
from seismograd.record.reader import Run

_MOST_ROWS = 20_000
_MOST_NUMBERS = 1_500_000  # rows times parameters
_QUICK_NUMBERS = 10_000


def page_verdict(run: Run, going_on: bool = False) -> Verdict:
    """Return what the rules say of a run; of one that goes on, or is long, what they said while
    it was recorded.
    """
    return verdict_at_once(run, going_on) or judge(run)


def verdict_at_once(run: Run, going_on: bool) -> Verdict | None:
    """Return the verdict where no rule has to run for it, or none could do so in time."""
    known = None if going_on else known_verdict(run)
    return recorded_verdict(run) if known is None and (going_on or _is_long(run)) else known


def is_quickly_judged(run: Run) -> bool:
    """Whether nobody would wait for the rules."""
    return run.num_rows * max(1, len(run.parameters)) <= _QUICK_NUMBERS


def _is_long(run: Run) -> bool:
    """Whether running the rules anew would take too long for a page."""
    return run.num_rows > _MOST_ROWS or run.num_rows * len(run.parameters) > _MOST_NUMBERS
