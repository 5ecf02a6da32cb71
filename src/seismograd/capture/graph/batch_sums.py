"""Find a sum over a whole batch that is added to the loss of each of its samples."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

from seismograd.capture.graph.loss_graph import LossGraph, below_views, is_leaf
from seismograd.capture.graph.loss_operands import Fault
from seismograd.capture.graph.loss_sums import ONE_NUMBER, addends
from seismograd.capture.graph.traversal import SAME_VALUES, shape_of, source

MIN_FACTOR = 0.5  # with a smaller one the weight may have been chosen for the sum
ADDING = frozenset({"AddBackward0", "SubBackward0"})
PASSING = SAME_VALUES | ADDING | {"NegBackward0", "RsubBackward1"}
MEANS = frozenset({"MeanBackward0", "MeanBackward1"})


def batch_sums(graph: LossGraph) -> Iterator[Fault]:
    """Detect one number that is the sum over a whole batch, and is added to a number for each
    sample before the mean is taken: all samples then carry the term of all samples.
    """
    for node in graph.nodes:
        if node.name() not in ADDING:
            continue
        shape = shape_of(node)
        if prod(shape) < 2 or prod(shape) != shape[0]:
            continue
        one, other = source(node), source(node, 1)
        if one is None or other is None:
            continue
        for each, total in ((one, other), (other, one)):
            if shape_of(each) == shape and shape_of(total) in ONE_NUMBER:
                summed = _summed_over(total, shape[0], each)
                if summed and _is_averaged(graph, node):
                    yield Fault("mean", "batch sum", shape[0], summed)
                    return


def _summed_over(total: Any, num_samples: int, each: Any) -> int:
    """Return how many numbers of the same samples a number is the sum of; 0 where it is not one, or
    is that of what it is added to.
    """
    made: set[Any] | None = None
    for term in addends(total):
        node = term.node
        if node.name() != "SumBackward0" or term.factor is None or abs(term.factor) < MIN_FACTOR:
            continue
        below = below_views(source(node))
        shape = shape_of(below)
        if below is None or not shape or shape[0] != num_samples or below == below_views(each):
            continue
        if made is None:
            made = _made_of_samples(each, num_samples)
        if made & _made_of_samples(below, num_samples):
            return prod(shape)
    return 0


def _made_of_samples(top: Any, num_samples: int) -> set[Any]:
    """Return the operations in front of one, or itself, that have a result for each sample."""
    stack, seen = [top], {top}
    while stack:
        for below, _ in stack.pop().next_functions:
            if below is not None and below not in seen and not is_leaf(below):
                seen.add(below)
                stack.append(below)
    return {node for node in seen if shape_of(node)[:1] == (num_samples,)}


def _is_averaged(graph: LossGraph, node: Any) -> bool:
    """Return whether the loss is a mean over the samples, to which numbers are added at most."""
    return any(
        reader.name() in MEANS and shape_of(reader) in ONE_NUMBER
        for reader, _ in graph.readers_of_values(node, PASSING)
    )
