"""The training loop as the user wrote it: the lines of the script that were called, in their order
within a step, and how often.
"""

from __future__ import annotations

from collections import defaultdict

from seismograd.record.reader import Run
from seismograd.schema import EventKind

_ROWS = 200  # of the middle of the run, where the loop is the same again and again
_ALWAYS = (EventKind.ZERO_GRAD, EventKind.BACKWARD, EventKind.STEP)

_KINDS = frozenset(map(int, EventKind))


def loop_lines(run: Run) -> dict[str, object]:
    """Return the calls with their site, how often each happened in how many steps; those of the
    three verbs that no line called have the site -1 and the count 0.
    """
    start = max(0, (run.num_rows - _ROWS) // 2)
    counts: dict[tuple[int, int], int] = defaultdict(int)
    places: dict[tuple[int, int], float] = defaultdict(float)
    num_rows = 0
    for block in run.row_reader.blocks(start, min(run.num_rows, start + _ROWS)):
        num_rows += len(block)
        position, iteration = 0, -1
        for event in block.events:
            position = position + 1 if int(event["iteration"]) == iteration else 0
            iteration = int(event["iteration"])
            key = int(event["kind"]), int(event["site"])
            if key[0] not in _KINDS:  # of a later version, or damaged
                continue
            counts[key] += 1
            places[key] += position
    order = sorted(counts, key=lambda key: places[key] / counts[key])
    lines = [_line(EventKind(kind), site, counts[kind, site]) for kind, site in order]
    called = {kind for kind, _ in counts}
    missing = [_line(kind, -1, 0) for kind in _ALWAYS if kind not in called]
    return {"steps": num_rows, "lines": [*missing, *lines]}


def _line(kind: EventKind, site: int, count: int) -> dict[str, object]:
    return {"kind": kind.name, "site": site, "count": count}
