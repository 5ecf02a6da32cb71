"""Find products of the numbers of samples with weights that were meant for one sample each: of the
shapes [N] and [N, 1] they are broadcast to [N, N].
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import torch

from seismograd.capture.graph.loss_graph import SCALING, LossGraph
from seismograd.capture.graph.loss_operands import Fault
from seismograd.capture.graph.loss_sums import ONE_NUMBER
from seismograd.capture.graph.traversal import SAME_VALUES, passes, saved, shape_of, source

PRODUCTS = frozenset({"DivBackward0", "MulBackward0"})
REDUCING = frozenset({"MeanBackward0", "MeanBackward1", "SumBackward0", "SumBackward1"})
# what may be done with a matrix of products before it is reduced
OF_PAIRS = SAME_VALUES | {
    "AddBackward0",
    "AliasBackward0",
    "MaximumBackward0",
    "MinimumBackward0",
    "NegBackward0",
    "RsubBackward1",
    "SubBackward0",
}


def crossed_products(graph: LossGraph) -> Iterator[Fault]:
    """Detect a product of numbers that have a graph with constants, one of which are [N] and the
    other [N, 1], whose matrix is only reduced: each number is then multiplied by all constants.
    `low` is 1 where the constants are the column.
    """
    for node in graph.nodes:
        name: str = node.name()
        shape = shape_of(node)
        if name not in PRODUCTS or len(shape) != 2 or shape[0] != shape[1] or shape[0] < 2:
            continue
        live = [
            (position, _result_shape(*edge))
            for position, edge in enumerate(node.next_functions)
            if edge[0] is not None
        ]
        if len(live) != 1 or (name == "DivBackward0" and live[0][0]):
            continue
        num, (position, given) = shape[0], live[0]
        constants = saved(node, "self" if position else "other")
        if constants is None or {tuple(constants.shape), given} != {(num,), (num, 1)}:
            continue
        if _differ(constants) and _is_only_reduced(graph, node):
            yield Fault("product", "broadcast", num, num, low=float(len(given) == 1))
            return


def _result_shape(node: Any, number: int) -> tuple[int, ...]:
    """Return the shape of one of the results of a node."""
    metadata = node._input_metadata
    return tuple(map(int, metadata[number].shape)) if number < len(metadata) else ()


def _differ(constants: torch.Tensor) -> bool:
    """Return whether it matters which number gets which constant."""
    with torch.no_grad():
        return bool((constants != constants.flatten()[0]).any())


def _is_only_reduced(graph: LossGraph, node: Any) -> bool:
    """Return whether all that is done with a matrix is to take its mean or its sum, times
    constants, or the smaller one of two.
    """
    shape, ends = shape_of(node), 0
    stack, seen = [node], {node}
    while stack:
        passed = stack.pop()
        readers = graph.readers[passed]
        if not readers:
            return False
        for reader in readers:
            name: str = reader.name()
            if name in REDUCING and shape_of(reader) in ONE_NUMBER:
                ends += 1
            elif (passes(reader, OF_PAIRS) or _is_weighed(reader)) and shape_of(reader) == shape:
                if reader not in seen:
                    seen.add(reader)
                    stack.append(reader)
            else:
                return False
    return ends > 0


def _is_weighed(node: Any) -> bool:
    """Return whether a node multiplies by constants that are not one for each pair."""
    if node.name() not in SCALING or (source(node) is not None and source(node, 1) is not None):
        return False
    others = [each for each in (saved(node, "self"), saved(node, "other")) if each is not None]
    return all(each.numel() < prod(shape_of(node)) for each in others)
