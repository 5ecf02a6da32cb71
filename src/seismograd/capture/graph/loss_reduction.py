"""Read from the autograd graph over how many samples or tokens a loss is a mean or a sum, and how
much each of them counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import prod
from typing import Any

import torch

from seismograd.capture.graph.traversal import saved, source
from seismograd.measure.native import tensor_reads
from seismograd.schema import EventFlag
from seismograd.tensors.device_scalars import Product, Scalar

MAX_OPERATIONS = 48  # nodes visited per loss

MAX_HOPS = 8  # nodes between a loss and what it was reduced from

MEAN, SUM = 1, 2  # torch's numbers for `reduction`

SAME_NUMBER = frozenset(
    {
        "AliasBackward0",
        "CloneBackward0",
        "NegBackward0",
        "ReshapeAliasBackward0",
        "SelectBackward0",
        "SqueezeBackward0",
        "SqueezeBackward1",
        "ToCopyBackward0",
        "UnsafeViewBackward0",
        "UnsqueezeBackward0",
        "ViewBackward0",
    }
)
OF_EACH = frozenset({"MeanBackward0", "MeanBackward1", "SumBackward0", "SumBackward1"})
WITH_REDUCTION = frozenset(
    {
        "BinaryCrossEntropyBackward0",
        "BinaryCrossEntropyWithLogitsBackward0",
        "HuberLossBackward0",
        "MseLossBackward0",
        "MultiMarginLossBackward0",
        "MultilabelMarginLossBackward0",
        "NllLoss2DBackward0",
        "NllLossBackward0",
        "SmoothL1LossBackward0",
        "SoftMarginLossBackward0",
    }
)
NLL = frozenset({"NllLossBackward0", "NllLoss2DBackward0"})
COUNTS_TARGETS = {name: name in NLL for name in WITH_REDUCTION}


@dataclass(frozen=True, slots=True)
class LossReduction:
    """`count` scalars, each of which counts `weight` in the loss: 1/count in a plain mean, 1 in
    a sum. Both may still be on a device.
    """

    count: Product = field(default_factory=Product)
    weight: Product = field(default_factory=Product)
    flags: EventFlag = EventFlag.NONE
    shown: bool = True


_NOT_KNOWN = Product((Scalar(math.nan),))
NOT_SHOWN = LossReduction(_NOT_KNOWN, _NOT_KNOWN, shown=False)


def reduction_of(loss: object) -> LossReduction | None:
    """Return how a loss was reduced, read from the last operations of its graph; `None` when they
    do not show it.

    Count and weight are NaN where the graph shows only that the loss was multiplied or divided by a
    number, as when everything before that was compiled. Nothing is recomputed, except counting a
    mask or the targets that count; saved tensors that are not at hand (checkpointing, offloading)
    are left alone.
    """
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1 or loss.grad_fn is None:
        return None
    found = _reduction(loss.grad_fn, MAX_OPERATIONS)
    return found if found.shown or found.flags else None


def mean_of(loss: object) -> LossReduction | None:
    """Return what `reduction_of` does, where a loss is a mean made by one operation whose count is
    at hand, as nearly every one, or such a mean times or over one number, as where losses are
    accumulated; `None` where that is not certain.
    """
    if type(loss) is not torch.Tensor or loss.numel() != 1:
        return None
    found = tensor_reads.mean_of_loss(loss.grad_fn, COUNTS_TARGETS)
    if found is None:
        return None
    return _scaled_mean(*found) if isinstance(found, tuple) else _mean_over(found)


@lru_cache(maxsize=64)
def _mean_over(count: float) -> LossReduction:
    """Return a mean over so many, which may be that of several losses: nothing in it changes."""
    number = Product((Scalar(count),))
    return LossReduction(number, Product().over_all(number))


@lru_cache(maxsize=64)
def _scaled_mean(count: float, constant: float, divides: bool) -> LossReduction:
    """Return a mean over so many that was divided by a number or multiplied with it."""
    factors = Product().over(constant) if divides else Product().times(constant)
    return _rescaled(_mean_over(count), factors, EventFlag.RESCALED)


def shape_reduced(loss: object) -> tuple[int, ...]:
    """Return the shape of what a loss was reduced from, in its first term: another one is another
    size of batch. Takes a tenth of the time that `reduction_of` takes.
    """
    node = loss.grad_fn if isinstance(loss, torch.Tensor) else None
    found = tensor_reads.shape_below(node, MAX_HOPS)
    if found is not None:
        return found
    for _ in range(MAX_HOPS):
        if node is None:
            break
        sources = node.next_functions
        node = sources[0][0] if sources else None
        if node is None and len(sources) > 1:
            node = sources[1][0]
        metadata = getattr(node, "_input_metadata", None)
        shape = metadata[0].shape if metadata else ()
        if len(shape):
            return tuple(map(int, shape))
    return ()


def _reduction(top: Any, budget: int) -> LossReduction:
    factors, divisors = Product(), list[Any]()
    rescaled = EventFlag.NONE
    node = top
    while node is not None and budget > 0:
        budget -= 1
        name: str = node.name()
        if name in OF_EACH or name in WITH_REDUCTION:
            return _rescaled(_reduced(node, name, divisors), factors, rescaled)
        if name in SAME_NUMBER:
            node = source(node)
        elif name in ("MulBackward0", "DivBackward0"):
            position, other = _constant(node, name)
            if other is None:
                break
            factors = factors.times(other) if name == "MulBackward0" else factors.over(other)
            if name == "DivBackward0":
                divisors.append(other)
            rescaled = EventFlag.RESCALED
            node = source(node, position)
        elif name in ("AddBackward0", "SubBackward0"):
            first, second = source(node), source(node, 1)
            several = EventFlag.NONE
            # label smoothing: follow the main term of the same loss
            if first is not None and first.name() == "MulBackward1":
                first = source(first)
            elif first is not None and second is not None:
                several = EventFlag.SEVERAL
            terms = [_reduction(each, budget // 2) for each in (first, second) if each is not None]
            main = next((term for term in terms if term.shown), terms[0] if terms else NOT_SHOWN)
            return _rescaled(main, factors, rescaled | several)
        else:
            break
    return replace(NOT_SHOWN, flags=rescaled)


def _rescaled(main: LossReduction, factors: Product, rescaled: EventFlag) -> LossReduction:
    """Return the main term of a loss, multiplied by the factor applied after it."""
    if main.shown and not rescaled:
        return main  # then there is no factor
    flags = main.flags | rescaled
    return (
        replace(main, weight=main.weight * factors, flags=flags)
        if main.shown
        else replace(NOT_SHOWN, flags=flags & EventFlag.RESCALED)
    )


def _constant(node: Any, name: str) -> tuple[int, torch.Tensor | None]:
    """Return which operand to follow and the other one, if that is a single number without a
    gradient of its own.
    """
    sources = node.next_functions
    if sources[0][0] is not None and (len(sources) < 2 or sources[1][0] is None):
        other = saved(node, "other")
        return 0, other if other is not None and other.numel() == 1 else None
    if name == "MulBackward0" and len(sources) > 1 and sources[0][0] is None:
        other = saved(node, "self")
        return 1, other if other is not None and other.numel() == 1 else None
    return 0, None


def _shape_of_source(node: Any) -> tuple[int, ...] | None:
    """Return the shape of a node's input: the node that produced it knows the shape of its own
    result.
    """
    source, position = node.next_functions[0] if node.next_functions else (None, 0)
    if source is None or source.name().endswith("AccumulateGrad"):
        leaf = None if source is None else source.variable
        return None if leaf is None else tuple(leaf.shape)
    metadata = getattr(source, "_input_metadata", None)
    return (
        None
        if metadata is None or position >= len(metadata)
        else tuple(int(size) for size in metadata[position].shape)
    )


def _reduced(node: Any, name: str, divisors: list[Any]) -> LossReduction:
    shape = _shape_of_source(node)
    if shape is None:
        return NOT_SHOWN
    numel = prod(shape)
    if name in WITH_REDUCTION:
        if name in NLL:
            counted = _counted_targets(node)
        else:
            counted = Product().times(float(numel))
        reduction = node._saved_reduction
        if counted is None or reduction not in (MEAN, SUM):
            return NOT_SHOWN
        if reduction == MEAN:
            return LossReduction(counted, Product().over_all(counted))
        return _summed(counted, shape, divisors)
    if name.startswith("Mean"):
        numel = int(node._saved_self_sym_numel)
        return LossReduction(Product().times(float(numel)), Product().over(float(numel)))
    masked = _masked(source(node), shape)
    return _summed(masked if masked is not None else Product().times(float(numel)), shape, divisors)


def _summed(counted: Product, shape: tuple[int, ...], divisors: list[Any]) -> LossReduction:
    """Return the reduction of a sum; divided by the number of samples it is their mean, so samples
    are what counts.
    """
    samples = float(shape[0]) if shape else 1.0
    numbers = [
        float(each) for each in divisors if each.device.type == "cpu" and not each.is_complex()
    ]
    # a mean written by hand; any other divisor means something else
    by_count = not counted.pending() and counted.read() in numbers
    if samples in numbers and not by_count and len(shape) > 1:
        return LossReduction(Product().times(samples), Product())
    return LossReduction(counted, Product(), EventFlag.NONE if divisors else EventFlag.SUMMED)


def _counted_targets(node: Any) -> Product | None:
    """Return how many targets are not `ignore_index`. For a mean torch has already counted them (by
    their class weights, if any).
    """
    if node._saved_reduction == MEAN:
        total = saved(node, "total_weight")
        return None if total is None else Product().times(total)
    target = saved(node, "target")
    if target is None:
        return None
    ignored: int = node._saved_ignore_index
    ignored -= (1 << 64) if ignored >= 1 << 63 else 0
    return Product().times((target != ignored).sum())


def _masked(node: Any, shape: tuple[int, ...]) -> Product | None:
    """Return how many scalars a mask lets through, where the summed tensor was multiplied by one or
    comes from a loss that ignores some.
    """
    for _ in range(4):
        if node is None:
            return None
        name = node.name()
        if name == "MulBackward0":
            for operand in ("other", "self"):
                mask = saved(node, operand)
                if (
                    mask is not None
                    and source(node, 1 if operand == "other" else 0) is None
                    and mask.numel() > 1
                ):
                    times = prod(shape) // max(mask.numel(), 1)  # the mask may have been broadcast
                    return Product().times(torch.count_nonzero(mask)).times(float(max(times, 1)))
            return None
        if name in NLL:
            return _counted_targets(node)
        if name not in SAME_NUMBER:
            return None
        node = source(node)
    return None
