"""A block in pieces, and what the rules make of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from seismograd.diagnosis.engine import Diagnosis, RuleStatus
from seismograd.diagnosis.whole_record import diagnose
from seismograd.schema import Finding, RowBatch

Result = tuple[tuple[Finding, ...], tuple[RuleStatus, ...]]


def cut(block: RowBatch, at: Iterable[int]) -> list[RowBatch]:
    """The block cut before each of these rows."""
    edges = sorted({0, len(block), *(row for row in at if 0 < row < len(block))})
    return [block.rows(start, stop) for start, stop in pairwise(edges)]


def row_by_row(blocks: Sequence[RowBatch]) -> list[RowBatch]:
    """As a session that judges each step at once."""
    return [each for block in blocks for each in cut(block, range(len(block)))]


def result(blocks: Iterable[RowBatch], **options: object) -> Result:
    """What the rules found, and what each came to."""
    diagnosis: Diagnosis = diagnose(blocks, **options)  # type: ignore[arg-type]
    return diagnosis.findings(), diagnosis.statuses()


def codes(blocks: RowBatch | Iterable[RowBatch]) -> list[str]:
    """The codes of what was found, information left out."""
    findings, _ = result([blocks] if isinstance(blocks, RowBatch) else blocks)
    return [finding.code for finding in findings if finding.severity != "info"]


def status(blocks: RowBatch | Iterable[RowBatch], code: str) -> RuleStatus:
    """What one rule came to."""
    _, statuses = result([blocks] if isinstance(blocks, RowBatch) else blocks)
    return next(each for each in statuses if each.code == code)
