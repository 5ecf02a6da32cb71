"""What things are called in the script: optimizers by their variable, calls by their line."""

from __future__ import annotations

from collections.abc import Iterable

from seismograd.analysis.block_rows import line_at
from seismograd.analysis.windows import WindowEvent
from seismograd.schema import RowBatch

BY_VALUE = 2  # `detail` of a clip


def optimizer_name(block: RowBatch, index: int) -> str:
    """The name of the variable that holds the optimizer, `optimizer` where it is not known."""
    known = [
        each.name
        for each in block.optimizers
        if each.index == index and each.kind and each.name not in ("", each.kind)
    ]
    return known[0] if known else "optimizer"


def optimizer_kind(block: RowBatch, index: int) -> str:
    """The class name of the optimizer, empty where it is not known."""
    return next((each.kind for each in block.optimizers if each.index == index), "")


def line_of(block: RowBatch, call: WindowEvent) -> str:
    """`file:line` of a call, empty where it is not known."""
    return line_at(block, call.site)


def at_line(block: RowBatch, call: WindowEvent) -> str:
    """`train.py:42` to name a call by; where it is not known, the words for that."""
    return line_of(block, call) or "?"


def clip_of(detail: int, limit: float) -> str:
    """The call of a clip, by norm or by value."""
    name = "clip_grad_value_" if detail == BY_VALUE else "clip_grad_norm_"
    return f"torch.nn.utils.{name}(model.parameters(), {limit:g})"


def holder_of(names: Iterable[str]) -> str:
    """The module that holds all of these parameters: `net.body` of `net.body.0.weight` and
    `net.body.2.bias`; empty: the model itself.
    """
    paths = [name.split(".")[:-1] for name in names]
    common: list[str] = []
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return ".".join(common)
