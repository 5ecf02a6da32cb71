"""Recognize rows that are one backward and one step of the first optimizer and nothing else, which
nearly all are, without reading their events one by one.
"""

from __future__ import annotations

import numpy as np

from seismograd.schema import STEP_DTYPE, EventFlag, EventKind, RowBatch, StepFlag

ODD_ROW = int(
    StepFlag.SKIPPED | StepFlag.NO_BACKWARD | StepFlag.BY_HAND | StepFlag.COPIED | StepFlag.CHANGED
)
OVER = int(EventFlag.USED | EventFlag.EMPTY)
CLOSURE, _RESCALED = int(EventFlag.CLOSURE), int(EventFlag.RESCALED)
BACKWARD, CLIP, ZERO_GRAD, STEP = (
    int(EventKind.BACKWARD),
    int(EventKind.CLIP),
    int(EventKind.ZERO_GRAD),
    int(EventKind.STEP),
)
_NUM_BACKWARDS, _NUM_STEPS, _FLAGS = (
    list(STEP_DTYPE.names or ()).index(name) for name in ("num_backwards", "num_steps", "flags")
)
_NEARLY = 1e-3
_FEW = 8  # rows of a block that are read one by one: NumPy takes as long for one as for a hundred


def site_if_plain(block: RowBatch) -> tuple[int, int] | None:
    """Return where the first step was, and how many evaluate the loss themselves, if each row is
    one backward and one step of the first optimizer, and nothing else.
    """
    return _site_if_all_plain(block) if len(block) > _FEW else _site_if_plain_few(block)


def is_rescaled(flags: int, total: float) -> bool:
    """Return whether a loss was multiplied or divided by a number, and is not known to be a mean
    after that.
    """
    return bool(flags & _RESCALED) and abs(total - 1) > _NEARLY


def _site_if_all_plain(block: RowBatch) -> tuple[int, int] | None:
    """Decide for many rows at once."""
    steps, events = block.steps, block.events
    if (
        (steps["num_backwards"] != 1).any()
        or (steps["num_steps"] != 1).any()
        or (steps["flags"] & ODD_ROW).any()
    ):
        return None
    kind, flags = events["kind"], events["flags"]
    is_step = kind == STEP
    if (
        int(is_step.sum()) != len(block)
        or (events["optimizer"][is_step] != 0).any()
        or (events["touched"] > 1).any()
    ):
        return None
    over = (flags & OVER) != 0
    rescaled = np.abs(events["count"] * events["weight"] - 1) > _NEARLY
    odd = (kind == BACKWARD) & ((flags & _RESCALED) != 0) & rescaled
    odd |= (kind == CLIP) & (over | (events["touched"] == 0))
    odd |= (kind == ZERO_GRAD) & ~over
    return (
        None
        if odd.any()
        else (int(events["site"][is_step][0]), int(np.count_nonzero(flags[is_step] & CLOSURE)))
    )


def _site_if_plain_few(block: RowBatch) -> tuple[int, int] | None:
    """Decide the same for few rows, one by one."""
    for row in block.steps.tolist():
        if row[_NUM_BACKWARDS] != 1 or row[_NUM_STEPS] != 1 or row[_FLAGS] & ODD_ROW:
            return None
    first, num_steps, num_closures = -1, 0, 0
    for (
        _,
        _,
        _,
        _,
        _,
        count,
        weight,
        touched,
        site,
        optimizer,
        flags,
        kind,
        _,
    ) in block.events.tolist():
        if touched > 1:
            return None
        if kind == STEP:
            first = site if num_steps == 0 else first
            num_steps += 1
            num_closures += flags & CLOSURE
            if optimizer != 0:
                return None
        elif kind == BACKWARD:
            if is_rescaled(flags, count * weight):
                return None
        elif (kind == CLIP and (flags & OVER or not touched)) or (
            kind == ZERO_GRAD and not flags & OVER
        ):
            return None
    return (first, num_closures) if num_steps == len(block) else None
