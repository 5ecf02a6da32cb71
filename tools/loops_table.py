"""Writes the table of docs/loops.md from the loops that the tests run: `python
tools/loops_table.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "loops.md"
BEGIN, END = "<!-- loops: made by tools/loops_table.py -->", "<!-- end of loops -->"
BEGIN_RANKS, END_RANKS = (
    "<!-- loops of several processes: made by tools/loops_table.py -->",
    "<!-- end of loops of several processes -->",
)


def table() -> str:
    """The rows, in the order of the tests."""
    sys.path.insert(0, str(ROOT))
    from tests.capture.loops import LOOPS

    return _table(BEGIN, END, [(loop.name, loop.measured) for loop in LOOPS])


def table_of_ranks() -> str:
    """The same for the loops of several processes."""
    sys.path.insert(0, str(ROOT))
    from tests.distributed.loops import CASES
    from tests.distributed.test_started import LOOPS

    return _table(
        BEGIN_RANKS, END_RANKS, [*((case.loop, case.measured) for case in CASES.values()), *LOOPS]
    )


def _table(begin: str, end: str, rows: list[tuple[str, str]]) -> str:
    listed = "\n".join(f"| {loop} | {measured} |" for loop, measured in rows)
    return f"{begin}\n| loop | when the gradient is read |\n|---|---|\n{listed}\n{end}"


def page(text: str) -> str:
    """The page with its table made anew."""
    for begin, end, made in ((BEGIN, END, table()), (BEGIN_RANKS, END_RANKS, table_of_ranks())):
        before, _, rest = text.partition(begin)
        text = before + made + rest.partition(end)[2]
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf8")), encoding="utf8")
