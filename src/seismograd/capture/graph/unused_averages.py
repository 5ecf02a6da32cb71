"""Find batch normalization in eval mode that still has the running averages that it was created
with, and is given something else.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from seismograd.capture.graph.traversal import saved
from seismograd.tensors.isolation import without_user_modes

MAX_NODES = 5000
NAME = "NativeBatchNormBackward0"
FAR = 10.0  # from one: the root mean square of what is to be normalized, or its inverse


class UnusedAverages(NamedTuple):
    """How many such layers there are, and the root mean square of the input of the one that is the
    furthest from one.
    """

    num: int
    size: float


def unused_averages(top: Any) -> UnusedAverages:
    """Look at the graph of a loss. What is close to a mean of zero and a variance of one anyway
    does not count.
    """
    found: list[float] = []
    stack, seen = [top], {top}
    while stack and len(seen) < MAX_NODES:
        node = stack.pop()
        if node is None:
            continue
        if node.name() == NAME and not node._saved_training:
            size = _size(node)
            if size > 0 and abs(math.log(size)) > math.log(FAR):
                found.append(size)
        for below, _ in node.next_functions:
            if below is not None and below not in seen:
                seen.add(below)
                stack.append(below)
    return UnusedAverages(len(found), max(found, key=lambda size: abs(math.log(size)), default=1.0))


def _size(node: Any) -> float:
    """Return the root mean square of a layer's input; 1 where its averages have been used, or its
    weights are not trained.
    """
    given, mean, variance = (saved(node, n) for n in ("input", "running_mean", "running_var"))
    is_trained = any(below is not None for below, _ in node.next_functions[1:])
    if given is None or mean is None or variance is None or not is_trained:
        return 1.0
    with without_user_modes():
        if bool(mean.any()) or not bool((variance == 1).all()):
            return 1.0
        size = float(given.float().square().mean().sqrt())
    return size if math.isfinite(size) else 1.0
