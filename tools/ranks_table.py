"""Writes the table of docs/ranks.md from the trainings of several processes that the tests run:
`python tools/ranks_table.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "ranks.md"
BEGIN, END = "<!-- trainings: made by tools/ranks_table.py -->", "<!-- end of trainings -->"
HEAD = "| training | processes | norm of every parameter | whole norm |\n|---|---|---|---|"


def rows() -> list[tuple[str, int, str, str]]:
    """Training, number of processes, and how exactly the tests compare the norms."""
    sys.path.insert(0, str(ROOT))
    from tests.distributed import owners, test_owners, zero_cases
    from tests.distributed.engines import ENGINES
    from tests.distributed.loops import CASES
    from tests.distributed.test_loops import FOUR_RANKS

    compared = [
        (case.loop, 4 if name in FOUR_RANKS else 2, 1e-9, True) for name, case in CASES.items()
    ]
    compared += [
        (engine.loop, 2, engine.tolerance, engine.by_parameter) for engine in ENGINES.values()
    ]
    compared += [
        (owners.CASES[name].loop, num, test_owners.TOLERANCE, True)
        for name, num in ((*((name, 2) for name in test_owners.HEALTHY), ("pairs", 4)))
    ]
    compared += [
        (case.loop, case.num_ranks, zero_cases.TOLERANCE, True)
        for case in zero_cases.CASES.values()
    ]
    return [
        (loop, num, f"{tolerance:g}" if by_parameter else "in flat columns", f"{tolerance:g}")
        for loop, num, tolerance, by_parameter in compared
    ]


def page(text: str) -> str:
    """The page with its table made anew."""
    listed = "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows())
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{HEAD}\n{listed}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf8")), encoding="utf8")
