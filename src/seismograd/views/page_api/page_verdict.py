"""The verdict on a run for the page: the known one, or judged now where that is quick, else as
found while the run went on.
"""

from __future__ import annotations

from seismograd.diagnosis.verdict import Verdict, judge, known_verdict, recorded_verdict
from seismograd.record.reader import Run

_MOST_ROWS = 20_000
_MOST_NUMBERS = 1_500_000  # rows times parameters
_QUICK_NUMBERS = 10_000


def page_verdict(run: Run, going_on: bool = False) -> Verdict:
    """Return the verdict of the rules on a run; of a running or long one, the verdict while it was
    recorded.
    """
    return verdict_at_once(run, going_on) or judge(run)


def verdict_at_once(run: Run, going_on: bool) -> Verdict | None:
    """Return the verdict where no rule has to run for it, or none could finish in time."""
    known = None if going_on else known_verdict(run)
    return recorded_verdict(run) if known is None and (going_on or _is_long(run)) else known


def is_quickly_judged(run: Run) -> bool:
    """Return whether running the rules is so quick that nobody would notice."""
    return run.num_rows * max(1, len(run.parameters)) <= _QUICK_NUMBERS


def _is_long(run: Run) -> bool:
    """Return whether running the rules anew would take too long for a page."""
    return run.num_rows > _MOST_ROWS or run.num_rows * len(run.parameters) > _MOST_NUMBERS
