"""Find views of states that lie layer by layer, (layers, samples, features), as rows of samples:
these then hold numbers of several samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from seismograd.capture.graph.classification_inputs import OF_A_LAYER, RESHAPING
from seismograd.capture.graph.loss_graph import LossGraph, is_leaf
from seismograd.capture.graph.loss_reduction import OF_EACH, WITH_REDUCTION
from seismograd.capture.graph.loss_sums import ONE_NUMBER
from seismograd.capture.graph.traversal import shape_of, signed, source

MAX_HOPS = 8  # nodes between the view and what was stacked
AFFINE = frozenset({"AddmmBackward0", "LinearBackward0"})
PASSING = frozenset(
    {"AliasBackward0", "CloneBackward0", "NativeDropoutBackward0", "UnsafeViewBackward0"}
)


class MixedState(NamedTuple):
    """What was stacked along its first dimension, of which `depth` parts of `samples` rows with
    `features` each were viewed; `is_of_layers`: each of these parts is what a layer gave.
    """

    node: Any
    depth: int
    samples: int
    features: int
    is_of_layers: bool


def mixed_states(graph: LossGraph) -> Iterator[MixedState]:
    """Yield stacks (D, B, H) that a view makes (B, D * H) or (B, D, H) of without a transpose,
    where the loss is over B, or over several numbers for each of B.
    """
    for node in graph.nodes:
        if node.name() not in RESHAPING:
            continue
        before, after = tuple(map(int, node._saved_self_sym_sizes)), shape_of(node)
        if len(before) != 3 or not after or after[0] != before[1] or before[0] == before[1]:
            continue
        depth, samples, features = before
        if min(depth, samples) < 2 or after[1:] not in ((depth * features,), (depth, features)):
            continue
        if any(shape_of(reader) == before for reader in graph.readers[node]):
            continue  # and back
        stack, is_of_layers = _stack(node.next_functions[0], samples, features)
        if stack is not None and _is_batch(graph, node, samples):
            yield MixedState(stack, depth, samples, features, is_of_layers)


def _stack(edge: tuple[Any, int], samples: int, features: int) -> tuple[Any, bool]:
    """Return the node that stacks what is viewed, behind slices of it, and whether its parts are
    what layers gave.
    """
    node, number = edge
    for _ in range(MAX_HOPS):
        if node is None:
            return None, False
        name: str = node.name()
        if name == "CudnnRnnBackward0":
            return (node if number else None), False
        if name == "StackBackward0":
            parts = [below for below, _ in node.next_functions]
            if int(node._saved_dim) or any(each is None or is_leaf(each) for each in parts):
                return None, False
            if shape_of(node)[1:] != (samples, features):
                return None, False
            return node, all(map(_is_of_a_layer, parts))
        is_passed = (
            name in PASSING
            or (name == "MulBackward0" and (source(node) is None or source(node, 1) is None))
            or (name in ("SliceBackward0", "SelectBackward0") and signed(node._saved_dim) == 0)
            or (name in RESHAPING and shape_of(node)[-2:] == (samples, features))
        )
        if not is_passed:
            return None, False
        is_second = source(node) is None  # of a dropout
        node, number = node.next_functions[int(is_second)]
    return None, False


def _is_of_a_layer(node: Any) -> bool:
    """Return whether this is what a linear layer gave, or an activation of it."""
    for _ in range(MAX_HOPS):
        if node is None or node.name() in AFFINE or node.name() not in OF_A_LAYER:
            break
        node = source(node)
    return node is not None and node.name() in AFFINE


def _is_batch(graph: LossGraph, node: Any, samples: int) -> bool:
    """Return whether what is made of a node is reduced to the loss over this number of samples, or
    a multiple of it, and over no other one.
    """
    reached = graph.reaching({node})
    sizes = {
        shape_of(below)[:1]
        for each in reached
        if each.name() in OF_EACH | WITH_REDUCTION and shape_of(each) in ONE_NUMBER
        for below, _ in each.next_functions[:1]
        if below in reached and shape_of(below) not in ONE_NUMBER
    }
    return bool(sizes) and all(size[0] % samples == 0 for size in sizes)
