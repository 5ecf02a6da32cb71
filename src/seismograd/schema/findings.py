"""What a rule found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from seismograd.i18n import Message

SEVERITIES = ("error", "warning", "info")


@dataclass(frozen=True, slots=True)
class Evidence:
    """A number of the record that a finding rests on, and the limit that it was held against.
    `parameter` is empty for one of the step.
    """

    statistic: str
    parameter: str
    step: int
    value: float
    limit: float


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule found. `first_step` and `last_step` are iterations; `where` is the user's
    file:line, empty when there is none.

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


@dataclass(frozen=True, slots=True)
class RuleStatus:
    """What a rule came to: `found`, `clear` or `not evaluated`; `reason` says why it was not,
    and is empty otherwise.
    """

    code: str
    name: str
    status: str
    reason: Message


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What the rules came to when a run had ended.

    `thresholds` are those of every rule that looked, by its code: with the same ones nobody has to
    look again. They and `statuses` are empty in records of before they were written.
    """

    findings: tuple[Finding, ...]
    statuses: tuple[RuleStatus, ...] = ()
    thresholds: Mapping[str, Mapping[str, float]] = field(
        default_factory=dict[str, Mapping[str, float]]
    )
