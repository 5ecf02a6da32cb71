"""What a loss function was given, as its node in the graph shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from seismograd.capture.graph.traversal import SAME_VALUES, source

MAX_ROWS = 64  # of an input whose values are inspected

PASSING = SAME_VALUES | {  # operations that pass on some or all of the same values
    "AliasBackward0",
    "ClampBackward0",
    "ClampBackward1",
    "ClampMinBackward0",
    "IndexBackward0",
    "MaskedSelectBackward0",
    "SelectBackward0",
    "SliceBackward0",
    "SqueezeBackward0",
    "UnbindBackward0",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """`loss` got an input produced by `input`; `rows` and `columns` belong to the shape that shows
    the fault. With `input` "targets" these do not suit it: from `low` to `high`.
    """

    loss: str
    input: str
    rows: int = 0
    columns: int = 0
    low: float = 0.0
    high: float = 0.0


def made_by(node: Any, position: int = 0) -> Any:
    """Return the operation that produced an operand, skipping those that only pass its values
    on.
    """
    below = source(node, position)
    while below is not None and below.name() in PASSING:
        below = source(below)
    return below


def class_sizes(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the first two sizes of an input: the examples, and the classes."""
    return (shape[0], shape[1]) if len(shape) > 1 else (0, 0)
