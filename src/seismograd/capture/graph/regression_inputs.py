"""Find inputs that do not suit a regression loss: shapes that broadcast against each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from seismograd.capture.graph.loss_operands import Fault, class_sizes
from seismograd.capture.graph.traversal import saved, shape_of, source

REGRESSION = {
    "MseLossBackward0": "mse",
    "HuberLossBackward0": "huber",
    "SmoothL1LossBackward0": "smooth_l1",
    "PowBackward0": "mse",
    "AbsBackward0": "l1",
    "MaximumBackward0": "quantile",
}
OF_DIFFERENCES = frozenset({"AbsBackward0", "MaximumBackward0", "PowBackward0"})
SCALING = frozenset({"DivBackward0", "MulBackward0", "NegBackward0"})


def broadcast(node: Any, name: str) -> Iterator[Fault]:
    """Detect [N, 1] against [N]: each prediction is compared with every target."""
    difference = source(node) if name in OF_DIFFERENCES else None
    while name == "MaximumBackward0" and difference is not None and difference.name() in SCALING:
        if source(difference, 1) is not None:
            return
        difference = source(difference)  # times the quantile
    if difference is None:
        if name == "MaximumBackward0":
            return
        one, other = saved(node, "self"), saved(node, "target")
        if one is not None and other is not None and _is_crossed(one, other):
            yield Fault(REGRESSION[name], "broadcast", *class_sizes(tuple(one.shape)))
        return
    if difference.name() != "SubBackward0":
        return
    kept = saved(node, "self")
    if kept is None or kept.dim() != 2 or kept.shape[0] != kept.shape[1] or kept.shape[0] < 2:
        return
    shapes = [_shape_before(source(difference, position)) for position in (0, 1)]
    live = [shape for shape in shapes if shape is not None]
    num = kept.shape[0]
    if len(live) == 2:
        is_crossed = sorted(live) == [(num,), (num, 1)]
    else:
        is_crossed = live[0] in ((num,), (num, 1)) and _is_sum_ofclass_sizes(kept)
    if is_crossed:
        yield Fault(REGRESSION[name], "broadcast", num, num)


def _is_crossed(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether each of two square matrices is a single expanded row or column, and they run
    in different directions.
    """
    if (
        one.dim() != 2
        or one.shape != other.shape
        or one.shape[0] != one.shape[1]
        or one.shape[0] < 2
    ):
        return False
    expanded = [
        [dim for dim, stride in enumerate(each.stride()) if stride == 0] for each in (one, other)
    ]
    return sorted(expanded) == [[0], [1]]


def _shape_before(node: Any) -> tuple[int, ...] | None:
    """Return the shape of an operand before it was expanded; `None` for one without a graph."""
    if node is None:
        return None
    if node.name() == "ExpandBackward0":
        return tuple(int(size) for size in node._saved_self_sym_sizes)
    return shape_of(node)


def _is_sum_ofclass_sizes(matrix: torch.Tensor) -> bool:
    """Return whether a matrix is a column plus a row."""
    with torch.no_grad():
        plain = matrix.double()
        rest = plain - plain[:, :1] - plain[:1] + plain[0, 0]
        return bool(rest.abs().max() <= 1e-5 * plain.abs().max())
