"""What a rule found."""

from __future__ import annotations

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
