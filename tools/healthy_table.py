"""Writes the table of docs/healthy.md from the programs that the tests run: `python
tools/healthy_table.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "healthy.md"
BEGIN, END = "<!-- programs: made by tools/healthy_table.py -->", "<!-- end of programs -->"


def table() -> str:
    """The rows, in the order of the tests."""
    sys.path.insert(0, str(ROOT))
    from tests.rules.healthy import PROGRAMS

    rows = "\n".join(
        f"| {each.network} | {each.optimizer} | {each.dtype} | {each.more} |" for each in PROGRAMS
    )
    return f"{BEGIN}\n| network | optimizer | dtype | besides |\n|---|---|---|---|\n{rows}\n{END}"


def page(text: str) -> str:
    """The page with its table made anew."""
    before, _, rest = text.partition(BEGIN)
    return before + table() + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf8")), encoding="utf8")
