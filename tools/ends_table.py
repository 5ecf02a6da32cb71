"""Writes the table of docs/ends.md from the ends that the tests run: `python
tools/ends_table.py`.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "ends.md"
BEGIN, END = "<!-- ends: made by tools/ends_table.py -->", "<!-- end of ends -->"


def table() -> str:
    """The rows, in the order of the tests."""
    sys.path.insert(0, str(ROOT))
    from tests.launch.ends import ENDS

    rows = [
        (end.name, _code(end.code), _code(end.code), _recorded(end.steps, end.record_ends))
        for end in ENDS
    ]
    listed = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    head = "| what was tried | `python` ended with | `seismograd run` ended with | recorded |"
    return f"{BEGIN}\n{head}\n|---|---|---|---|\n{listed}\n{END}"


def _code(code: int) -> str:
    if code == -signal.SIGINT:
        return "SIGINT (shell: 130), or 1"
    return str(code) if code >= 0 else f"{signal.Signals(-code).name} (shell: {128 - code})"


def _recorded(steps: int | None, record_ends: bool) -> str:
    if not record_ends:
        return "what was on disk by then"
    return "all steps until then" if steps is None else f"all {steps} steps"


def page(text: str) -> str:
    """The page with its table made anew."""
    before, _, rest = text.partition(BEGIN)
    return before + table() + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf8")), encoding="utf8")
