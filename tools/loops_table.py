"""Writes the table of docs/loops.md from the loops that the tests run: `python tools/loops_table.py`."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "loops.md"
BEGIN, END = "<!-- loops: made by tools/loops_table.py -->", "<!-- end of loops -->"


def table() -> str:
    """The rows, in the order of the tests."""
    sys.path.insert(0, str(ROOT))
    from tests.listen.loops import LOOPS

    rows = "\n".join(f"| {loop.name} | {loop.measured} |" for loop in LOOPS)
    return f"{BEGIN}\n| loop | when the gradient is read |\n|---|---|\n{rows}\n{END}"


def page(text: str) -> str:
    """The page with its table made anew."""
    before, _, rest = text.partition(BEGIN)
    return before + table() + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf8")), encoding="utf8")
