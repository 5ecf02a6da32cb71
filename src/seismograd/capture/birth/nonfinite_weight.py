"""Find a weight that is not finite in the graph of a loss."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from seismograd.capture.birth.birth import nonfinite
from seismograd.capture.birth.operation import readable
from seismograd.capture.graph.traversal import LEAF, MAX_NODES
from seismograd.tensors.isolation import without_user_modes


def weight_in_graph(top: Any) -> Tensor | None:
    """Return a leaf of a graph, such as a parameter, that is not finite; `None` where none is, as
    far as this process holds and can read them.
    """
    stack, reached = [top], {top}
    with without_user_modes():
        while stack and len(reached) < MAX_NODES:
            for source, _ in stack.pop().next_functions:
                if source is None or source in reached:
                    continue
                reached.add(source)
                if source._sequence_nr() != LEAF:
                    stack.append(source)
                    continue
                leaf = getattr(source, "variable", None)
                held = None if leaf is None else readable(leaf)
                if held is not None and nonfinite(held) is not None:
                    return leaf
    return None
