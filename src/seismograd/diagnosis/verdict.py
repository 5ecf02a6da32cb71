"""What the rules say of a run: findings in the order in which one should read them, and the
state of every rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seismograd.diagnosis.engine import RuleStatus
from seismograd.record.reader import Run
from seismograd.schema import SEVERITIES, Finding


@dataclass(frozen=True, slots=True)
class Verdict:
    """The findings of a run, and what each rule came to."""

    run: Run
    findings: tuple[Finding, ...]
    statuses: tuple[RuleStatus, ...]

    @property
    def has_error(self) -> bool:
        """Whether any finding is an error."""
        return any(finding.severity == "error" for finding in self.findings)


def make_verdict(run: Run, findings: Sequence[Finding], statuses: Sequence[RuleStatus]) -> Verdict:
    """Put the findings into reading order: the most severe first, then the earliest."""
    ordered = sorted(
        findings,
        key=lambda finding: (SEVERITIES.index(finding.severity), finding.first_step, finding.code),
    )
    return Verdict(run, tuple(ordered), tuple(statuses))
