"""What things are called in the script: optimizers by their variable, calls by their line."""

from __future__ import annotations

from seismograd.rules.windows import Call
from seismograd.schema import Block


def optimizer_name(block: Block, index: int) -> str:
    """The name of the variable that holds the optimizer, `optimizer` where it is not known."""
    known = [each.name for each in block.optimizers if each.index == index and each.kind and each.name not in ("", each.kind)]
    return known[0] if known else "optimizer"


def optimizer_kind(block: Block, index: int) -> str:
    """The class name of the optimizer, empty where it is not known."""
    return next((each.kind for each in block.optimizers if each.index == index), "")


def line_of(block: Block, call: Call) -> str:
    """`file:line` of a call, empty where it is not known."""
    return str(block.sites[call.site]) if 0 <= call.site < len(block.sites) else ""


def at_line(block: Block, call: Call) -> str:
    """`train.py:42` to name a call by; where it is not known, the words for that."""
    return line_of(block, call) or "?"
