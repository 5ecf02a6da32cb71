"""Find losses whose value says nothing: log-probabilities of actions, each times a number without a
graph, such as a return or an advantage. The better the policy, the larger the returns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple, cast

import torch

from seismograd.capture.graph.advantages import (
    OF_PROBABILITY,
    is_difference,
    is_of_all,
    nodes_below,
)
from seismograd.capture.graph.loss_graph import SUMMING, LossGraph, below_views, leaves_behind
from seismograd.capture.graph.traversal import saved, shape_of, source
from seismograd.capture.loop.fact_log import Facts
from seismograd.capture.loop.optimizer_window import OptimizerWindow
from seismograd.schema import FactKind, LossDoubt
from seismograd.tensors.isolation import without_user_modes
from seismograd.tensors.saved_tensors import saved_list

MAX_HOPS = 4096  # operations between a loss and its products
MAX_PRODUCTS = 64
MAX_NUMBERS = 1 << 16  # of the weights of a loss
# weights of samples or of classes are about one, rewards that add up over an episode are more
OF_SAMPLES = 2.0
CHOOSING = SUMMING | {"MaximumBackward0", "MinimumBackward0"}  # as the surrogate of PPO does
SCALING = frozenset({"DivBackward0", "MulBackward0"})
NONE = 0  # torch's number for `reduction`


class Weighted(NamedTuple):
    """Numbers that log-probabilities are multiplied by; the actions that these are of, where they
    are known; and whether a distribution gave them, not a loss function.
    """

    weights: torch.Tensor
    actions: torch.Tensor | None
    of_distribution: bool


@dataclass(slots=True)
class PolicyLosses:
    """Inspects the graphs of the losses that it is given; reports each optimizer once."""

    facts: Facts
    _reported: set[int] = field(default_factory=set[int])

    def look(self, site: int, graph: LossGraph, windows: Sequence[OptimizerWindow]) -> None:
        """Inspect the graph of a loss whose backward begins at this call site."""
        new = [window for window in windows if window.index not in self._reported]
        if not new or not is_policy_loss(graph):
            return
        reached = {id(leaf) for leaf in leaves_behind(set(graph.tops))}
        for window in new:
            if not reached.isdisjoint(map(id, window.held())):
                self._reported.add(window.index)
                self.facts.report(
                    FactKind.LOSS_DOUBTFUL,
                    site=site,
                    optimizer=window.index,
                    reason=LossDoubt.POLICY,
                )


def is_policy_loss(graph: LossGraph) -> bool:
    """Return whether a loss adds up log-probabilities of actions times numbers that are no weights
    of samples or of classes: some of them are negative, or they are large, and others for the same
    action.
    """
    with without_user_modes(), torch.no_grad():
        found = list(_weighted(graph))
        return bool(found) and _are_returns(found)


def _are_returns(found: list[Weighted]) -> bool:
    numbers = torch.cat([each.weights for each in found])
    counted = numbers[numbers != 0]  # the others are left out by a mask
    if not counted.numel() or not bool(torch.isfinite(counted).all()):
        return False
    if bool((counted < 0).any()) and bool((counted > 0).any()):
        return True
    sizes = counted.abs()
    is_large = float(sizes.mean()) >= OF_SAMPLES
    if float(sizes.min()) == float(sizes.max()):
        return False
    of_distribution = all(each.of_distribution for each in found)
    if any(each.actions is None for each in found):
        return of_distribution and is_large
    actions = torch.cat([each.actions for each in found if each.actions is not None])
    return (of_distribution or is_large) and _differ_for_one(actions[numbers != 0], sizes)


def _differ_for_one(actions: torch.Tensor, sizes: torch.Tensor) -> bool:
    """Return whether two samples of one action have different weights."""
    numbers = cast("list[list[float]]", torch.stack([actions.double(), sizes], 1).tolist())
    pairs = {(action, size) for action, size in numbers}
    return len(pairs) > len({action for action, _ in pairs})


def _weighted(graph: LossGraph) -> Iterator[Weighted]:
    """Yield the products that a loss is the sum of."""
    stack, seen, num = [*graph.tops], set(graph.tops), 0
    while stack and num < MAX_PRODUCTS and len(seen) < MAX_HOPS:
        node = stack.pop()
        name: str = node.name()
        live = [below for below, _ in node.next_functions if below is not None]
        if name in SCALING and len(live) == 1:
            found = _product(node, live[0]) if name == "MulBackward0" else None
            if found is not None:
                num += 1
                yield found
                continue
        elif name not in CHOOSING:
            continue
        for below in live:
            if below not in seen:
                seen.add(below)
                stack.append(below)


def _product(node: Any, live: Any) -> Weighted | None:
    """Return what a product multiplies log-probabilities by; `None` where it is a product of
    something else, or with one number for many actions.
    """
    weights = saved(node, "other" if source(node) is not None else "self")
    if (
        weights is None
        or not weights.is_floating_point()
        or weights.layout is not torch.strided
        or not 0 < weights.numel() <= MAX_NUMBERS
    ):
        return None
    numbers = weights.reshape(-1).double().cpu()
    below = list(nodes_below(live, OF_PROBABILITY))
    for each in below:
        picked = _actions(each)
        if picked is None:
            continue
        num = prod(shape_of(each))
        if numbers.numel() == 1 and num > 1:
            return None
        actions, of_distribution = picked
        if actions is not None and actions.numel() != numbers.numel():
            actions = None
        at = None if actions is None else actions.detach().reshape(-1).cpu()
        return Weighted(numbers, at, of_distribution)
    squared = [
        each for each in below if each.name() == "PowBackward0" and is_difference(source(each))
    ]
    if not squared or (numbers.numel() == 1 and prod(shape_of(squared[0])) > 1):
        return None
    # a normal distribution whose width is learned
    return Weighted(numbers, None, any(each.name() == "LogBackward0" for each in below))


def _actions(node: Any) -> tuple[torch.Tensor | None, bool] | None:
    """Return which actions a node picks the log-probabilities of, where they are at hand, and
    whether a distribution has computed these; `None` where it picks nothing.
    """
    name: str = node.name()
    if name == "GatherBackward0" and is_of_all(node):
        return saved(node, "index"), below_views(source(node)).name() != "LogSoftmaxBackward0"
    if name == "IndexBackward0" and is_of_all(node):
        kept = saved_list(node, "indices")
        return (kept[-1] if len(kept) > 1 else None), False
    if name == "NllLossBackward0" and node._saved_reduction == NONE:
        return saved(node, "target"), False
    if name == "BinaryCrossEntropyWithLogitsBackward0" and node._saved_reduction == NONE:
        return None, False
    return None
