"""Find where a non-finite loss came from: the first operation of the forward pass that received or
produced a non-finite value.
"""

from __future__ import annotations

from typing import Any

import torch

from seismograd.capture.graph.traversal import LEAF, MAX_NODES, SAME_VALUES
from seismograd.schema import Origin
from seismograd.tensors.dtensor import held_part
from seismograd.tensors.freed_memory import is_readable
from seismograd.tensors.isolation import without_user_modes

MADE_BY_ITSELF = ("result", "output")  # saved attributes that hold a node's own output
MASKS = ("attn_mask", "attn_bias")  # masks set hidden positions to -inf


def origin_of(top: Any) -> Origin:
    """Search the saved tensors of a graph in the order of the forward pass and return the origin.

    Reads only memory that is at hand: what was packed away (checkpointing, offloading) stays
    packed, and weights that sharding has freed cannot be read.
    """
    with without_user_modes():
        return _origin_of(top)


def _origin_of(top: Any) -> Origin:
    nodes, leaves = _below(top)
    if any(not _finite(leaf) for leaf in leaves):
        return Origin.WEIGHT
    for node in sorted(nodes, key=lambda node: node._sequence_nr()):
        # the logarithm of an impossible, masked value is -inf
        masked = node.name() == "LogSoftmaxBackward0"
        for name, tensor in _kept(node):
            if name in MASKS or _finite(tensor, masked):
                continue
            if name in MADE_BY_ITSELF:
                return Origin.LOSS if node is top else Origin.ACTIVATION
            computed = any(_is_computed(source) for source, _ in node.next_functions)
            return Origin.ACTIVATION if computed and name != "target" else Origin.INPUT
    return Origin.LOSS


def _is_computed(source: Any) -> bool:
    """Return whether this operand is more than a parameter or a view of one."""
    while source is not None and source._sequence_nr() != LEAF:
        if source.name() not in SAME_VALUES:
            return True
        source = source.next_functions[0][0]
    return False


def _below(top: Any) -> tuple[list[Any], list[torch.Tensor]]:
    seen: set[Any] = {top}
    stack: list[Any] = [top]
    leaves: dict[int, torch.Tensor] = {}
    nodes: list[Any] = []
    while stack and len(seen) < MAX_NODES:
        node = stack.pop()
        nodes.append(node)
        for source, _ in node.next_functions:
            if source is None or source in seen:
                continue
            seen.add(source)
            if source._sequence_nr() == LEAF:
                leaf = getattr(source, "variable", None)
                if leaf is not None:
                    leaves[id(leaf)] = leaf
            else:
                stack.append(source)
    return nodes, list(leaves.values())


def _kept(node: Any) -> list[tuple[str, torch.Tensor]]:
    found: list[tuple[str, torch.Tensor]] = []
    for attribute in dir(node):
        if attribute.startswith("_raw_saved_"):
            raw: Any = getattr(node, attribute)
            for each in raw if isinstance(raw, tuple) else (raw,):  # pyright: ignore[reportUnknownVariableType]
                data = getattr(each, "data", None)  # pyright: ignore[reportUnknownArgumentType]
                if isinstance(data, torch.Tensor):
                    found.append((attribute.removeprefix("_raw_saved_"), data))
    return found


def _finite(tensor: torch.Tensor, masked: bool = False) -> bool:
    """Return whether what this process holds of a tensor is finite, as far as it can be read."""
    plain = held_part(tensor)
    if not plain.is_floating_point() or plain.layout is not torch.strided or not is_readable(plain):
        return True
    finite = torch.isfinite(plain)
    return bool((finite | torch.isneginf(plain) if masked else finite).all())
