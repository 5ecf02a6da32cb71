"""The findings of a run for the page: judged now where that is quick, else as they were found while the run went on."""

from __future__ import annotations

from dataclasses import dataclass

from seismograd.record.reader import Run
from seismograd.rules.engine import RuleStatus, diagnose
from seismograd.schema import SEVERITIES, Finding

_MOST_ROWS = 20_000
_MOST_NUMBERS = 1_500_000  # rows times parameters


@dataclass(frozen=True, slots=True)
class Judged:
    """Findings in reading order, what each rule came to, and whether the rules were run for it now (`statuses` is empty otherwise)."""

    findings: tuple[Finding, ...]
    statuses: tuple[RuleStatus, ...]
    now: bool


def judge(run: Run, going_on: bool = False) -> Judged:
    """What the rules say of a run; of one that goes on, or is long, what they said while it was recorded."""
    if going_on or run.num_rows > _MOST_ROWS or run.num_rows * len(run.parameters) > _MOST_NUMBERS:
        return Judged(in_order(run.findings), (), False)
    diagnosis = diagnose(run.blocks(), notes=run.notes)
    return Judged(in_order(diagnosis.findings()), diagnosis.statuses(), True)


def in_order(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Findings in reading order: the most severe first, then the earliest."""
    return tuple(sorted(findings, key=lambda each: (SEVERITIES.index(each.severity), each.first_step, each.code)))
