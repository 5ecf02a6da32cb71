"""Which iterations of a block a rule looks at."""

from __future__ import annotations

import numpy as np

from seismograd.rules.profile import BoolArray
from seismograd.schema import Block, EventKind, IntArray, StepFlag

_UNUSED = int(StepFlag.SKIPPED | StepFlag.NO_BACKWARD)


def updates(block: Block) -> BoolArray:
    """Where a new gradient went into an update: neither skipped nor used a second time  # (B,)."""
    return (block.steps["flags"] & _UNUSED) == 0


def by_optimizer(block: Block, wanted: BoolArray) -> list[tuple[int, IntArray]]:
    """The wanted rows  # (B,), in order, by the optimizer that stepped first in them."""
    optimizer = block.steps["optimizer"]
    rows = np.flatnonzero(wanted)
    if not len(rows):
        return []
    first = int(optimizer[rows[0]])
    if len(rows) == 1 or (optimizer[rows] == first).all():
        return [(first, rows)]
    return [(int(each), rows[optimizer[rows] == each]) for each in np.unique(optimizer[rows])]


def site_of(block: Block, kind: EventKind, iteration: int, optimizer: int | None = None) -> str:
    """`file:line` of the first event of this kind in an iteration (of this optimizer), empty when there is none."""
    events = block.events
    wanted = (events["iteration"] == iteration) & (events["kind"] == kind)
    if optimizer is not None:
        wanted &= events["optimizer"] == optimizer
    at = np.flatnonzero(wanted)
    site = int(events["site"][at[0]]) if len(at) else -1
    return str(block.sites[site]) if 0 <= site < len(block.sites) else ""
