"""Count what was right, with intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Rate:
    """`hits` of `total`."""

    hits: int
    total: int

    @property
    def value(self) -> float:
        return self.hits / self.total if self.total else math.nan

    def interval(self, z: float = 1.96) -> tuple[float, float]:
        """Return Wilson's interval; z: standard deviations (1.96: 95 %)."""
        if not self.total:
            return 0.0, 1.0
        n, p = self.total, self.value
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, centre - half), min(1.0, centre + half)

    def __str__(self) -> str:
        if not self.total:
            return "–"
        low, high = self.interval()
        return f"{self.hits}/{self.total} = {self.value:.0%} ({low:.0%}–{high:.0%})"


@dataclass(frozen=True)
class Score:
    """What is said of a set of mutants that show their fault."""

    named: Rate
    first: Rate
    precision: Rate  # of the findings that are errors or warnings, those that are of the fault
    culprit: Rate
    advice: Rate
    mended: Rate


def score(rows: Iterable[Row], right: Callable[[Row], Sequence[str]]) -> Score:
    """Return the score of rows; `right` gives the rules that are right about one."""
    rows = [r for r in rows if r["outcome"] == "judged"]

    def rate(values: Iterable[bool | None]) -> Rate:
        known = [v for v in values if v is not None]
        return Rate(sum(known), len(known))

    said = [name in right(r) for r in rows for name in r["names"]]
    return Score(
        named=rate(r["named"] for r in rows),
        first=rate(r["first"] for r in rows),
        precision=rate(said),
        culprit=rate(r["culprit"] for r in rows),
        advice=rate(r["advice"] for r in rows),
        mended=rate(r["mended"] for r in rows),
    )


def of_rules(
    rows: Iterable[Row], healthy: Iterable[Row], right: Callable[[Row], Sequence[str]]
) -> dict[str, tuple[Rate, Rate, Rate]]:
    """Return for each rule what it names of its own faults, what first, and how often it is right.

    `right` gives the rules that are right about a row, the one whose own fault it is first.
    """
    judged = [r for r in rows if r["outcome"] == "judged"]
    said = [(name, name in right(r)) for r in judged for name in r["names"]]
    said += [(name, False) for r in healthy for name in r["names"]]
    found: dict[str, tuple[Rate, Rate, Rate]] = {}
    for rule in sorted({right(r)[0] for r in judged} | {name for name, _ in said}):
        own = [r for r in judged if right(r)[0] == rule]
        hits = [is_right for name, is_right in said if name == rule]
        found[rule] = (
            Rate(sum(r["named"] for r in own), len(own)),
            Rate(sum(r["first"] for r in own), len(own)),
            Rate(sum(hits), len(hits)),
        )
    return found


def grouped(rows: Iterable[Row], key: str) -> dict[str, list[Row]]:
    """Return rows by a key, in the order of the keys."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[key], []).append(row)
    return dict(sorted(groups.items()))
