"""Traverse the autograd graph of a loss: the order in which parameters were used, and what was done
with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any

import torch

from seismograd.tensors.freed_memory import is_readable
from seismograd.tensors.saved_tensors import saved_tensor

MAX_NODES = 200_000
MAX_HOPS = 8  # nodes from the operation that reads a parameter to its activation
LEAF = (1 << 64) - 1  # the sequence number of AccumulateGrad

ACTIVATIONS = {
    "ReluBackward0": "relu",
    "LeakyReluBackward0": "leaky_relu",
    "SigmoidBackward0": "sigmoid",
    "TanhBackward0": "tanh",
    "GeluBackward0": "gelu",
    "SiluBackward0": "silu",
    "EluBackward0": "elu",
    "MishBackward0": "mish",
    "SoftplusBackward0": "softplus",
    "HardtanhBackward0": "hardtanh",
    "HardsigmoidBackward0": "hardsigmoid",
    "HardswishBackward0": "hardswish",
    "ThresholdBackward0": "relu",
    "SoftmaxBackward0": "softmax",
    "LogSoftmaxBackward0": "log_softmax",
    "LogSigmoidBackward0": "log_sigmoid",
}
LOOK_UPS = frozenset(
    {
        "EmbeddingBackward0",
        "EmbeddingBagBackward0",
        "GatherBackward0",
        "IndexBackward0",
        "IndexSelectBackward0",
    }
)
SAME_VALUES = frozenset(
    {
        "CloneBackward0",
        "ExpandBackward0",
        "PermuteBackward0",
        "ReshapeAliasBackward0",
        "SqueezeBackward1",
        "TBackward0",
        "ToCopyBackward0",
        "TransposeBackward0",
        "UnsafeViewBackward0",
        "UnsqueezeBackward0",
        "ViewBackward0",
    }
)
ON_THE_WAY = SAME_VALUES | {  # operations that may stand between a layer and its activation
    "AddBackward0",
    "CudnnBatchNormBackward0",
    "FusedDropoutBackward0",
    "MaxPool2DWithIndicesBackward0",
    "AvgPool2DBackward0",
    "MulBackward0",
    "NativeBatchNormBackward0",
    "NativeDropoutBackward0",
    "NativeGroupNormBackward0",
    "NativeLayerNormBackward0",
}


@dataclass(frozen=True, slots=True)
class GraphLeaf:
    """A leaf tensor of a graph, the activation its operation's output goes through next, and the
    dtype of that operation where it differs.

    `beside`: ids of the weights on a parallel path (`side_by_side`).
    """

    tensor: torch.Tensor
    activation: str = ""
    compute_dtype: str = ""
    beside: frozenset[int] = frozenset()


def leaves_in_order(tops: list[Any]) -> list[GraphLeaf]:
    """Return every leaf tensor that the graph below these nodes reaches, in the order of first use
    in the forward pass.

    Autograd numbers its nodes in the order in which the forward pass makes them
    (`Node._sequence_nr`), so the smallest number among the nodes that read a leaf is when it was
    first used; inputs of the same node keep their order. Empty for a graph of more than `MAX_NODES`
    nodes.
    """
    found: dict[int, tuple[tuple[int, int], torch.Tensor, Any]] = {}
    stack: list[Any] = [top for top in tops if top is not None]
    seen: set[Any] = set(stack)
    read_by: dict[Any, Any] = {}  # node -> one that reads its output
    while stack:
        node = stack.pop()
        number: int = node._sequence_nr()
        for position, (source, _) in enumerate(node.next_functions):
            if source is None:
                continue
            leaf = getattr(source, "variable", None) if source._sequence_nr() == LEAF else None
            if leaf is not None:
                key = (number, position)
                if id(leaf) not in found or key < found[id(leaf)][0]:
                    found[id(leaf)] = (key, leaf, node)
            elif source not in seen:
                seen.add(source)
                read_by[source] = node
                stack.append(source)
                if len(seen) > MAX_NODES:
                    return []
    beside = side_by_side(seen)
    return [
        _leaf(leaf, node, read_by, beside)
        for _, leaf, node in sorted(found.values(), key=lambda entry: entry[0])
    ]


def side_by_side(nodes: Iterable[Any]) -> dict[int, frozenset[int]]:
    """Return, for the ids of the weights of at least two dimensions in this graph, the weights on a
    parallel path, that of another network.

    Two paths are distinct where they meet: at an operation (the loss at the latest) one input of
    which comes from two or more weights that are not behind the other input, and the other way
    round. A single weight is not a path: query and key lie side by side as well. Nor are weights
    that meet each other before they are used, as direction and length do in weight normalization:
    no data has entered in between.
    """
    weights: dict[int, int] = {}  # id -> its bit
    behind: dict[Any, int] = {}
    beside: dict[int, int] = {}  # by bit
    fed: set[Any] = set()  # operations that data has reached: one of their inputs needs no gradient
    # an operation's inputs were made before it
    for node in sorted(nodes, key=lambda each: each._sequence_nr()):
        here, is_fed = (
            0,
            node.name() in LOOK_UPS or any(source is None for source, _ in node.next_functions),
        )
        for source, _ in node.next_functions:
            if source is None:
                continue
            leaf = getattr(source, "variable", None) if source._sequence_nr() == LEAF else None
            if leaf is not None:
                one = 1 << weights.setdefault(id(leaf), len(weights)) if leaf.ndim > 1 else 0
            else:
                one = behind.get(source, 0)
            mine, other = here & ~one, one & ~here
            # at least two bits in each
            if mine & (mine - 1) and other & (other - 1) and source in fed:
                for some, rest in ((mine, other), (other, mine)):
                    for bit in _bits(some):
                        beside[bit] = beside.get(bit, 0) | rest
            here |= one
            is_fed |= source in fed
        behind[node] = here
        if is_fed:
            fed.add(node)
    ids = list(weights)
    return {
        ids[bit]: frozenset(ids[other] for other in _bits(others)) for bit, others in beside.items()
    }


def _bits(number: int) -> Iterator[int]:
    while number:
        lowest = number & -number
        yield lowest.bit_length() - 1
        number ^= lowest


def shares_operations(tops: list[Any], last: int) -> bool:
    """Return whether the graph below these nodes contains operations made no later than the one
    with number `last`.
    """
    stack: list[Any] = [top for top in tops if top is not None]
    seen: set[Any] = set(stack)
    while stack:
        node = stack.pop()
        if node._sequence_nr() <= last:
            return True
        for source, _ in node.next_functions:
            if source is not None and source not in seen and source._sequence_nr() != LEAF:
                seen.add(source)
                stack.append(source)
        if len(seen) > MAX_NODES:
            return False
    return False


def source(node: Any, position: int = 0) -> Any:
    """Return the node that produced an operand of a node; `None` where it has no graph."""
    sources = node.next_functions
    return sources[position][0] if position < len(sources) else None


def saved(node: Any, name: str) -> torch.Tensor | None:
    """Return a tensor that a node saved, as it is: nothing that a hook packed away is unpacked, and
    freed memory is never returned.
    """
    data = saved_tensor(node, name)
    return data.detach() if data is not None and is_readable(data) else None


def signed(number: Any) -> int:
    """Return a dimension or an index that a node saved: it shows negative ones as large ones."""
    value = int(number)
    return value - (1 << 64) if value >= 1 << 63 else value


def passes(node: Any, names: Set[str] = SAME_VALUES) -> bool:
    """Return whether a node has one of these names, or is a slice that takes everything: torch
    2.6 makes one for every `:` of an index.
    """
    name: str = node.name()
    return name in names or (
        name == "SliceBackward0" and shape_of(node) == tuple(map(int, node._saved_self_sym_sizes))
    )


def leads_to(node: Any, earlier: Any) -> bool:
    """Return whether an operation depends on an earlier one, or is it."""
    first = earlier._sequence_nr()
    stack, seen = [node], {node}
    while stack:
        each = stack.pop()
        if each == earlier:
            return True
        for below, _ in each.next_functions:
            # what was made before cannot depend on it
            if below is not None and below not in seen and below._sequence_nr() >= first:
                seen.add(below)
                stack.append(below)
    return False


def shape_of(node: Any) -> tuple[int, ...]:
    """Return the shape of a node's first result; empty where the node does not know it."""
    metadata = getattr(node, "_input_metadata", None)
    # of a compiled graph the sizes may be symbols
    return tuple(map(int, metadata[0].shape)) if metadata else ()


def last_number(tops: list[Any]) -> int:
    """Return the number of the last operation of these graphs; -1 when there is none."""
    last = -1
    for top in tops:
        number = -1 if top is None else top._sequence_nr()
        if last < number != LEAF:
            last = number
    return last


def _leaf(
    leaf: torch.Tensor, node: Any, read_by: dict[Any, Any], beside: Mapping[int, frozenset[int]]
) -> GraphLeaf:
    activation, compute_dtype = _used(leaf, node, read_by)
    return GraphLeaf(leaf, activation, compute_dtype, beside.get(id(leaf), frozenset()))


def _used(leaf: torch.Tensor, node: Any, read_by: dict[Any, Any]) -> tuple[str, str]:
    """Return the activation behind the operation that reads a leaf, and the dtype of that operation
    where it differs.
    """
    while node is not None and passes(node):
        node = read_by.get(node)
    if node is None:
        return "", ""
    metadata = getattr(node, "_input_metadata", None)
    dtype = metadata[0].dtype if metadata else leaf.dtype
    compute_dtype = (
        str(dtype).removeprefix("torch.") if dtype != leaf.dtype and dtype.is_floating_point else ""
    )
    for _ in range(MAX_HOPS):
        node = read_by.get(node)
        if node is None:
            break
        name: str = node.name()
        if name in ACTIVATIONS:
            return ACTIVATIONS[name], compute_dtype
        if name not in ON_THE_WAY:
            break
    return "", compute_dtype
