"""The findings of a run for the page: judged now where that is quick, else as they were found
while the run went on.
"""

from __future__ import annotations

from dataclasses import dataclass

from seismograd.diagnosis.engine import RuleStatus, diagnose
from seismograd.record.reader import Run
from seismograd.schema import SEVERITIES, Finding

_MOST_ROWS = 20_000
_MOST_NUMBERS = 1_500_000  # rows times parameters
_QUICK_NUMBERS = 10_000


@dataclass(frozen=True, slots=True)
class PageVerdict:
    """Findings in reading order, and what each rule came to.

    `how`: the rules were run for it "now"; else, without `statuses`, it is what those beside the
    training said at its "end", or so far ("running").
    """

    findings: tuple[Finding, ...]
    statuses: tuple[RuleStatus, ...]
    how: str


def judge_run(run: Run, going_on: bool = False) -> PageVerdict:
    """What the rules say of a run; of one that goes on, or is long, what they said while it was
    recorded.
    """
    if going_on or is_long(run):
        return as_recorded(run)
    diagnosis = diagnose(
        run.blocks(), notes=run.notes, facts=run.facts, fact_kinds=run.info.fact_kinds
    )
    return PageVerdict(in_order(diagnosis.findings()), diagnosis.statuses(), "now")


def as_recorded(run: Run) -> PageVerdict:
    """What the rules beside the training said."""
    return PageVerdict(in_order(run.findings), (), "end" if run.is_concluded else "running")


def is_long(run: Run) -> bool:
    """Whether running the rules anew would take too long for a page."""
    return run.num_rows > _MOST_ROWS or run.num_rows * len(run.parameters) > _MOST_NUMBERS


def is_quickly_judged(run: Run) -> bool:
    """Whether nobody would wait for it."""
    return run.num_rows * max(1, len(run.parameters)) <= _QUICK_NUMBERS


def in_order(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Findings in reading order: the most severe first, then the earliest."""
    return tuple(
        sorted(
            findings, key=lambda each: (SEVERITIES.index(each.severity), each.first_step, each.code)
        )
    )
