"""Compare what a command prints with what a page says, whatever the numbers are.

Losses, norms and times differ between machines, and with them the places at which lines break. So
numbers and small charts count as equal and white space is left out; codes of rules and names are
compared.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tools.documents.page_blocks import ELLIPSIS

_RUN = re.compile(r"\d{8}T\d{6}Z")
_NUMBER = re.compile(r"(?<![\w.])[-+−]?\d[\d,]*(\.\d+)?(e[+-]?\d+)?")


def comparable(lines: Sequence[str]) -> str:
    """Return what is compared of some lines."""
    text = _NUMBER.sub("#", _RUN.sub("RUN", "\n".join(lines)))
    return re.sub(r"[\s─━▁▂▃▄▅▆▇█]+", "", text)


def agrees(expected: Sequence[str], actual: Sequence[str]) -> bool:
    """Say whether the output is what the page shows."""
    if not expected:
        return True  # the page does not show it
    parts = [re.escape(comparable(part)) for part in _parts(expected)]
    return re.fullmatch(".*?".join(parts), comparable(actual), re.DOTALL) is not None


def renewed(expected: Sequence[str], actual: Sequence[str]) -> list[str]:
    """Return what the page should show: the same lines as before, with the numbers of today; all
    lines where these cannot be found.
    """
    if not expected:
        return []
    result: list[list[str]] = []
    start = 0
    for part in _parts(expected):
        found = _find(part, actual, start) if part else (start, start)
        if found is None:
            return list(actual)
        result.append(list(actual[found[0] : found[1]]))
        start = found[1]
    lines = result[0]
    for part in result[1:]:
        lines = [*lines, ELLIPSIS, *part]
    return lines


def _parts(lines: Sequence[str]) -> list[list[str]]:
    """Return what stands before, between and after the lines that are left out."""
    parts: list[list[str]] = [[]]
    for line in lines:
        if line.strip() == ELLIPSIS:
            parts.append([])
        else:
            parts[-1].append(line)
    return parts


def _find(part: Sequence[str], actual: Sequence[str], start: int) -> tuple[int, int] | None:
    wanted = comparable(part)
    for first in range(start, len(actual)):
        if not actual[first].strip():
            continue
        ends = range(first + 1, len(actual) + 1)
        fitting = [last for last in ends if comparable(actual[first:last]) == wanted]
        if fitting:  # a line of white space or a chart alone counts as nothing: take it in
            last = fitting[-1]
            return first, last if actual[last - 1].strip() else fitting[0]
    return None
