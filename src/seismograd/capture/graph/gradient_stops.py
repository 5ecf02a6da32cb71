"""The operations of a graph that never pass a gradient on, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from seismograd.capture.graph.loss_reduction import NLL
from seismograd.capture.graph.traversal import (
    LEAF,
    SAME_VALUES,
    passes,
    saved,
    shape_of,
    signed,
    source,
)
from seismograd.schema import ZeroCause

MAX_SCALARS = 1 << 26  # of saved tensors, read per loss


ROUNDING = {
    "CeilBackward0": "ceil",
    "FloorBackward0": "floor",
    "RoundBackward0": "round",
    "RoundBackward1": "round",
    "SignBackward0": "sign",
    "TruncBackward0": "trunc",
}


MAX_SCALINGS = 8  # between a rounding and what its result is taken for
SCALINGS = SAME_VALUES | {"AddBackward0", "DivBackward0", "MulBackward0", "SubBackward0"}


# operations whose gradient is zero where their result is
ACTIVATED = {"ReluBackward0": "relu", "ThresholdBackward0": "relu"}


COMPARING = frozenset({"HuberLossBackward0", "MseLossBackward0", "SmoothL1LossBackward0"})


PRODUCTS = {  # operands of a product by the positions of their sources, as the node saves them
    "AddmmBackward0": {1: "mat1", 2: "mat2"},
    "BaddbmmBackward0": {1: "batch1", 2: "batch2"},
    "BmmBackward0": {0: "self", 1: "mat2"},
    "ConvolutionBackward0": {0: "input", 1: "weight"},
    "MmBackward0": {0: "self", 1: "mat2"},
    "MulBackward0": {0: "self", 1: "other"},
    "MvBackward0": {0: "self", 1: "vec"},
}


@dataclass(frozen=True, slots=True)
class GradientStop:
    """Why a node passes no gradient on to one of its sources; `weight`: of zeros."""

    cause: ZeroCause
    node: Any
    operation: str = ""
    weight: torch.Tensor | None = None


def stops_at(node: Any, budget: list[int]) -> Iterator[tuple[int, GradientStop]]:
    """Yield the sources of a node that never receive a gradient from it."""
    name: str = node.name()
    if name in PRODUCTS:
        yield from _of_product(node, name, budget)
        return
    if rounding := rounding_of(node):
        for position in range(len(node.next_functions)):
            yield position, GradientStop(ZeroCause.ROUNDING, node, rounding)
        return
    cause, operation = _whole(node, name, budget)
    if cause is not None:
        for position in range(len(node.next_functions)):
            yield position, GradientStop(cause, node, operation)
    elif name == "DivBackward0":
        # -a / b² is what the divisor gets
        above = _kept(node, "self", budget) if source(node, 1) is not None else None
        if above is not None and source(node) is not None and _is_zero(above):
            yield 1, GradientStop(ZeroCause.ZERO_INPUT, node)
    elif name == "WhereBackward0":
        condition = _kept(node, "condition", budget)
        if condition is not None:
            for position, is_off in ((0, not bool(condition.any())), (1, bool(condition.all()))):
                if is_off:
                    yield position, GradientStop(ZeroCause.MASKED, node, "where")


def _whole(node: Any, name: str, budget: list[int]) -> tuple[ZeroCause | None, str]:
    """Return why a node passes no gradient on to any of its sources; `None` when it does."""
    if name in ("SoftmaxBackward0", "LogSoftmaxBackward0"):
        return _of_softmax(node, name, budget)
    if name in ACTIVATED:
        result = _kept(node, "result" if name == "ReluBackward0" else "self", budget)
        return (
            (ZeroCause.FLAT, ACTIVATED[name])
            if result is not None and not bool((result > 0).any())
            else (None, "")
        )
    if name in ("SigmoidBackward0", "TanhBackward0"):
        result = _kept(node, "result", budget)
        if result is None:
            return None, ""
        slope = result * (1 - result) if name == "SigmoidBackward0" else 1 - result * result
        return (
            (ZeroCause.FLAT, name.removesuffix("Backward0").lower())
            if _is_zero(slope)
            else (None, "")
        )
    if name.startswith(
        ("ClampBackward", "ClampMinBackward", "ClampMaxBackward", "HardtanhBackward")
    ):
        return (ZeroCause.FLAT, "clamp") if _is_clamped(node, budget) else (None, "")
    if name in ("ProdBackward0", "ProdBackward1"):
        return (ZeroCause.NO_OVERLAP, "prod") if _has_no_overlap(node, budget) else (None, "")
    if name in NLL:
        return (ZeroCause.IGNORED, "nll_loss") if _is_ignored(node) else (None, "")
    if name in COMPARING:
        one, other = _kept(node, "self", budget), _kept(node, "target", budget)
        if one is None or other is None or not torch.equal(one, other):
            return None, ""
        return (
            ZeroCause.SOLVED
            if source(node, 1) is None or source(node) is None
            else ZeroCause.WITH_ITSELF
        ), ""
    if name in ("MaskedFillBackward0", "NativeDropoutBackward0"):
        is_fill = name == "MaskedFillBackward0"
        mask = _kept(node, "mask" if is_fill else "result1", budget)
        passes_none = mask is not None and (bool(mask.all()) if is_fill else _is_zero(mask))
        return (
            (ZeroCause.MASKED, "masked_fill" if is_fill else "dropout")
            if passes_none
            else (None, "")
        )
    if name in ("ExpBackward0", "DivBackward0", "SubBackward0"):
        return (
            (ZeroCause.WITH_ITSELF, "ratio") if _is_ratio_of_one(node, name, budget) else (None, "")
        )
    return None, ""


def rounding_of(node: Any) -> str:
    """Return the operation, such as `round`, by which a node passes no gradient on to any of its
    sources, whatever its numbers are; empty where it is no such node.
    """
    name: str = node.name()
    if name.startswith("DivBackward"):
        return str(getattr(node, "_saved_rounding_mode", None) or "")
    return _of_estimator(node) if name == "AddBackward0" else ROUNDING.get(name, "")


def _of_estimator(node: Any) -> str:
    """Return the rounding in `x + (round(x) - x)`, a straight-through estimator whose difference is
    not detached: what x gets of both cancels out; empty where it is something else.
    """
    one, other = source(node), source(node, 1)
    for passed, difference, at in ((one, other, 0), (other, one, 1)):
        if (
            passed is None
            or difference is None
            or difference.name() != "SubBackward0"
            or source(difference, 1) is not passed
            or difference.next_functions[1][1] != node.next_functions[at][1]
            or node._saved_alpha != difference._saved_alpha
        ):
            continue
        rounded = source(difference)
        for _ in range(MAX_SCALINGS):
            if rounded is None or rounded.name() in ROUNDING:
                break
            if rounded.name() not in SCALINGS:
                rounded = None
                break
            rounded = source(rounded)
        if rounded is not None and rounded.name() in ROUNDING:
            return ROUNDING[rounded.name()]
    return ""


def _of_product(node: Any, name: str, budget: list[int]) -> Iterator[tuple[int, GradientStop]]:
    """Check a product: an operand gets no gradient where the other one is zero."""
    operands = PRODUCTS[name]
    (one, first), (other, second) = operands.items()
    for position, partner, kept in ((one, other, second), (other, one, first)):
        value = _kept(node, kept, budget) if source(node, position) is not None else None
        if value is None or not _is_zero(value):
            continue
        made_by = source(node, partner)
        leaf = _leaf_behind(made_by)
        if leaf is not None and leaf.dim() > 0:
            yield position, GradientStop(ZeroCause.ZERO_WEIGHT, node, "", leaf)
        elif made_by is None:
            yield (
                position,
                GradientStop(ZeroCause.ZERO_FACTOR, node, "×" if value.numel() == 1 else "mask"),
            )
        else:
            yield position, GradientStop(ZeroCause.ZERO_INPUT, node)


def _of_softmax(node: Any, name: str, budget: list[int]) -> tuple[ZeroCause | None, str]:
    dim, shape = signed(node._saved_dim), shape_of(node)
    operation = "softmax" if name == "SoftmaxBackward0" else "log_softmax"
    if shape and shape[dim] == 1:
        return ZeroCause.SOFTMAX_OF_ONE, operation
    result = _kept(node, "result", budget) if name == "SoftmaxBackward0" else None
    return (
        (ZeroCause.FLAT, operation)
        if result is not None and _is_zero(result * (1 - result))
        else (None, "")
    )


def last_size(node: Any) -> int:
    """Return the size of the last dimension; 0 where that is the one that the softmax is over."""
    dim, shape = int(node._saved_dim), shape_of(node)
    return 0 if dim in (len(shape) - 1, (1 << 64) - 1) else shape[-1]


def _has_no_overlap(node: Any, budget: list[int]) -> bool:
    """Return whether it is a product of clamped numbers, as of the sides of the overlap of two
    boxes, that passes nothing back: where its derivative is not zero, the clamp's is.
    """
    value, below = _kept(node, "self", budget), source(node)
    is_clamp = below is not None and below.name().startswith(("ClampBackward", "ClampMinBackward"))
    if value is None or not (is_clamp or (below is not None and below.name() in ACTIVATED)):
        return False
    dim = getattr(node, "_saved_dim", None)
    with torch.no_grad():
        is_zero = value == 0
        if dim is None:
            return int(is_zero.sum()) > 0
        dim = signed(dim)
        # the derivative of a factor is the product of the others; the clamp's is zero at zeros
        return bool(is_zero.any(dim).all())


def _is_clamped(node: Any, budget: list[int]) -> bool:
    value = _kept(node, "self", budget)
    limits = {
        name: getattr(node, f"_saved_{name}", None) for name in ("min", "max", "min_val", "max_val")
    }
    low = limits["min"] if limits["min"] is not None else limits["min_val"]
    high = limits["max"] if limits["max"] is not None else limits["max_val"]
    if (
        value is None
        or any(isinstance(limit, torch.Tensor) for limit in (low, high))
        or (low is None and high is None)
    ):
        return False
    inside = torch.ones_like(value, dtype=torch.bool)
    if low is not None:
        inside &= value >= low
    if high is not None:
        inside &= value <= high
    return not bool(inside.any())


def _is_ignored(node: Any) -> bool:
    target, ignored = saved(node, "target"), signed(node._saved_ignore_index)
    return target is not None and target.numel() > 0 and bool((target == ignored).all())


def _is_ratio_of_one(node: Any, name: str, budget: list[int]) -> bool:
    """Return whether it is exp(a - b), a / b or a - b, where a and b are the same and both have a
    graph: their gradients cancel.
    """
    if name == "ExpBackward0":
        difference, result = source(node), _kept(node, "result", budget)
        while difference is not None and passes(difference):
            difference = source(difference)
        if difference is None or difference.name() != "SubBackward0" or result is None:
            return False
        return (
            source(difference) is not None
            and source(difference, 1) is not None
            and bool((result == 1).all())
        )
    one, other = source(node), source(node, 1)
    if one is None or other is None:
        return False
    if name == "SubBackward0":
        return one is other and node.next_functions[0][1] == node.next_functions[1][1]
    above, below = _kept(node, "self", budget), _kept(node, "other", budget)
    return (
        above is not None
        and below is not None
        and above.shape == below.shape
        and torch.equal(above, below)
    )


def _leaf_behind(node: Any) -> torch.Tensor | None:
    while node is not None and passes(node):
        node = source(node)
    return (
        getattr(node, "variable", None)
        if node is not None and node._sequence_nr() == LEAF
        else None
    )


def _kept(node: Any, name: str, budget: list[int]) -> torch.Tensor | None:
    """Return a plain tensor that a node saved, within the limit on scalars that may be read."""
    value = saved(node, name)
    if (
        value is None
        or value.layout is not torch.strided
        or value.numel() == 0
        or budget[0] < value.numel()
    ):
        return None
    budget[0] -= value.numel()
    return value


def _is_zero(value: torch.Tensor) -> bool:
    with torch.no_grad():
        return not bool(value.any())
