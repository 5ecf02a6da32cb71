"""Reduce findings to one per cause: a finding absorbs those that it explains."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from seismograd.schema import SEVERITIES, Finding

# non-finite values reach every optimizer through the weights that the models share
SPREADING = ("SG201",)

# code and severity -> the codes that such a finding explains
Absorbs = Mapping[tuple[str, str], Sequence[str]]


def reading_order(finding: Finding) -> tuple[int, int, str, int]:
    """Return the sort key: the most severe first, then the earliest."""
    return SEVERITIES.index(finding.severity), finding.first_step, finding.code, finding.optimizer


def in_reading_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the findings in reading order."""
    return tuple(sorted(findings, key=reading_order))


def by_cause(findings: Iterable[Finding], absorbs: Absorbs) -> tuple[Finding, ...]:
    """Return the findings that nothing else explains, in reading order; the codes of those that
    each explains are its `related`.
    """
    found = sorted(findings, key=lambda finding: (finding.first_step, *reading_order(finding)))
    explained: dict[int, list[Finding]] = {}
    for finding in found:
        explained.setdefault(id(_root(finding, found, absorbs)), []).append(finding)
    roots = [finding for finding in found if id(finding) in explained]
    return in_reading_order(
        replace(root, related=_codes(root, explained[id(root)])) for root in roots
    )


def _root(finding: Finding, found: Sequence[Finding], absorbs: Absorbs) -> Finding:
    """Return the root of a symptom: follow causes, each time to the earliest."""
    cause = next((other for other in found if _explains(other, finding, absorbs)), None)
    return finding if cause is None else _root(cause, found, absorbs)


def _explains(cause: Finding, symptom: Finding, absorbs: Absorbs) -> bool:
    explained = absorbs.get((cause.code, cause.severity), ())
    if symptom.code not in explained or symptom.first_step < cause.first_step:
        return False
    same_location = cause.optimizer == symptom.optimizer or -1 in (
        cause.optimizer,
        symptom.optimizer,
    )
    return same_location or symptom.code in SPREADING or cause.code in SPREADING


def _codes(root: Finding, group: Iterable[Finding]) -> tuple[str, ...]:
    return tuple(
        dict.fromkeys(
            finding.code for finding in group if finding is not root and finding.code != root.code
        )
    )
