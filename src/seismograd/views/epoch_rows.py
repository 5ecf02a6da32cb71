"""Where the epochs of a run begin: as the program said, or as its DataLoader shows."""

from __future__ import annotations

import math

from seismograd.record.reader import Run
from seismograd.schema import FactKind

_MOST = 40  # marks that a picture has room for


def epoch_rows(run: Run) -> list[int]:
    """Return the rows at which the second and later epochs begin; of very many, every nth. Empty
    where they are not known.
    """
    rows = (_as_said(run) or _as_iterated(run)) if run.num_rows else []
    return rows[:: max(1, -(-len(rows) // _MOST))]


def _as_said(run: Run) -> list[int]:
    """Return where the number that `epoch(…)` sets changes, found by bisection."""

    def epoch(row: int) -> int:
        return int(run.row_reader.steps(row, row + 1)["epoch"][0])

    last = run.num_rows - 1
    found, row, final = list[int](), 0, epoch(last)
    while epoch(row) < final and len(found) < _MOST * _MOST:
        now, low, high = epoch(row), row, last
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if epoch(middle) <= now else (low, middle)
        row = high
        found.append(row)
    return found


def _as_iterated(run: Run) -> list[int]:
    """Return the rows by the length of an epoch, where all of them are equally long."""
    known = [fact for fact in run.facts if fact.kind == FactKind.EPOCHS]
    if not known:
        return []
    numbers = [known[-1].number(name) for name in ("epochs", "per_epoch")]
    if not all(map(math.isfinite, numbers)):
        return []
    epochs, per_epoch = map(int, numbers)
    in_middle = run.num_rows // 2
    per_step = int(run.row_reader.steps(in_middle, in_middle + 1)["num_backwards"][0])
    if per_step < 1 or per_epoch % per_step or epochs < 2:
        return []
    length = per_epoch // per_step
    if not (epochs - 1) * length < run.num_rows <= epochs * length:
        return []
    return [epoch * length for epoch in range(1, epochs)]
