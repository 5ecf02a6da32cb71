"""Find targets that do not suit their loss function: it takes them as they are, and computes
something else.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from seismograd.capture.graph.loss_operands import Fault
from seismograd.capture.graph.traversal import saved, source

# Of a binary cross entropy. Targets of 1.2 are noisy labels, as some train a GAN with.
LOWEST, HIGHEST = -0.05, 1.5


def probabilities(node: Any, loss: str) -> Iterator[Fault]:
    """Detect targets of a binary cross entropy that are not between 0 and 1, such as -1 or 255:
    it has no minimum then.
    """
    target = saved(node, "target")
    if target is None or target.numel() == 0:
        return
    low, high = (float(each) for each in torch.aminmax(target))
    if low < LOWEST or high > HIGHEST:
        yield Fault(loss, "targets", low=low, high=high)


def signs(node: Any, name: str) -> Iterator[Fault]:
    """Detect targets of 0 where those of the loss function are 1 and -1."""
    if name == "SoftMarginLossBackward0":
        target = saved(node, "target")
        if target is not None and bool((target == 0).any()):
            yield Fault("soft_margin", "targets", low=0.0, high=1.0)
    elif name == "AddBackward0":
        one, other = source(node), source(node, 1)
        if _name(one) == _name(other) == "WhereBackward0":
            yield from _two_branches(one, other)


def _two_branches(one: Any, other: Any) -> Iterator[Fault]:
    """Check a sum of `where`s, as torch computes a loss for pairs that are alike and for others."""
    ways = saved(one, "condition"), saved(other, "condition")
    if ways[0] is None or ways[1] is None or ways[0].shape != ways[1].shape:
        return
    below = _name(source(one)), _name(source(other))
    if below == ("SubBackward0", "ClampMinBackward0"):
        # 1 - cos where the target is 1, cos - margin where it is -1, and nothing elsewhere
        if not bool((ways[0] | ways[1]).all()):
            yield Fault("cosine_embedding", "targets", low=0.0, high=1.0)
    # margin - x where the target is not 1, x where it is not -1
    elif below[0] == "ClampMinBackward0" and bool((ways[0] & ways[1]).any()):
        yield Fault("hinge_embedding", "targets", low=0.0, high=1.0)


def _name(node: Any) -> str:
    return "" if node is None else node.name()
