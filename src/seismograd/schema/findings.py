"""The findings of rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from seismograd.i18n import Message

SEVERITIES = ("error", "warning", "info")


@dataclass(frozen=True, slots=True)
class Evidence:
    """A number of the record that supports a finding, and the limit that it was compared with.
    `parameter` is empty for one of the step.
    """

    statistic: str
    parameter: str
    step: int
    value: float
    limit: float


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding of a rule. `first_step` and `last_step` are iterations; `where` is the user's
    file:line, empty when there is none; `seen_only`: the fault shows there, and the mistake is
    elsewhere.

    `related` are the codes of findings that this one explains and absorbs.
    """

    code: str
    name: str
    severity: str
    optimizer: int
    first_step: int
    last_step: int
    parameters: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    cause: Message
    advice: Message
    where: str = ""
    excerpt: str = ""
    related: tuple[str, ...] = field(default_factory=tuple[str, ...])
    seen_only: bool = False

    def _repr_html_(self) -> str:
        # What a notebook shows of it: only there is it needed.
        from seismograd.schema.finding_html import finding_html

        return finding_html(self)


@dataclass(frozen=True, slots=True)
class RuleStatus:
    """The outcome of a rule: `found`, `clear` or `not evaluated`; `reason` says why it was not, and
    is empty otherwise.
    """

    code: str
    name: str
    status: str
    reason: Message


@dataclass(frozen=True, slots=True)
class Conclusion:
    """The outcome of the rules at the end of a run.

    `thresholds` are those of every evaluated rule, by its code: with the same ones the rules need
    not run again. They and `statuses` are empty in records from before they were written.
    """

    findings: tuple[Finding, ...]
    statuses: tuple[RuleStatus, ...] = ()
    thresholds: Mapping[str, Mapping[str, float]] = field(
        default_factory=dict[str, Mapping[str, float]]
    )
