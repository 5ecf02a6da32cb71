"""Find focal losses whose weight is computed from the mean over a batch."""

from __future__ import annotations

from collections.abc import Iterator, Set
from math import prod
from typing import Any

from seismograd.capture.graph.loss_graph import SCALING, LossGraph
from seismograd.capture.graph.loss_operands import Fault
from seismograd.capture.graph.loss_reduction import NLL, OF_EACH, WITH_REDUCTION
from seismograd.capture.graph.loss_sums import ONE_NUMBER
from seismograd.capture.graph.traversal import SAME_VALUES, passes, shape_of, source

MAX_HOPS = 16
POWERS = frozenset({"PowBackward0", "PowBackward1", "SqrtBackward0"})
WITHIN = SAME_VALUES | SCALING | {"NegBackward0"}
LOSSES = {
    "BinaryCrossEntropyBackward0": "bce",
    "BinaryCrossEntropyWithLogitsBackward0": "bce_with_logits",
    "NllLoss2DBackward0": "cross_entropy",
    "NllLossBackward0": "cross_entropy",
}


def reduced_focal_losses(graph: LossGraph) -> Iterator[Fault]:
    """Detect a number that is multiplied by a power of one minus the exponential of its negative,
    (1 - exp(-ce)) ** gamma * ce, and that is the mean or the sum over several samples: the weight
    is then the same for all of them.
    """
    for node in graph.nodes:
        if node.name() != "MulBackward0":
            continue
        one, other = source(node), source(node, 1)
        if one is None or other is None:
            continue
        for weight, loss in ((one, other), (other, one)):
            reduced = _weighed_by(weight)
            if reduced is not None and _behind(loss, WITHIN) == _behind(reduced, WITHIN):
                function, num = _reduction(reduced)
                if num > 1:
                    yield Fault(function, "reduced focal", num)
                    return


def _weighed_by(weight: Any) -> Any:
    """Return the number of which a factor is a power of one minus its negative exponential."""
    node = _behind(weight, WITHIN)
    if node is None or node.name() not in POWERS:
        return None
    node = _behind(source(node), SAME_VALUES)
    name = "" if node is None else node.name()
    if name == "NegBackward0":
        node = _behind(source(node), SAME_VALUES)
        is_of_one = node is not None and node.name() == "Expm1Backward0"
    elif name == "RsubBackward1":
        node, is_of_one = _behind(source(node), SAME_VALUES), True
    elif name == "SubBackward0" and source(node) is None:
        node, is_of_one = _behind(source(node, 1), SAME_VALUES), True
    else:
        return None
    if not is_of_one or node is None or node.name() not in ("ExpBackward0", "Expm1Backward0"):
        return None
    number = source(node)
    return number if number is not None and shape_of(number) in ONE_NUMBER else None


def _behind(node: Any, passing: Set[str]) -> Any:
    """Return what made a value, in front of operations that pass it on, with one operand that has a
    graph.
    """
    for _ in range(MAX_HOPS):
        if node is None or not passes(node, passing):
            return node
        live = [below for below, _ in node.next_functions if below is not None]
        if len(live) != 1:
            return node
        node = live[0]
    return None


def _reduction(node: Any) -> tuple[str, int]:
    """Return the loss function that a number comes from, and of how many samples it is the mean or
    the sum; 0 where that is not certain.
    """
    for _ in range(MAX_HOPS):
        live = [below for below, _ in node.next_functions if below is not None]
        if not live or shape_of(node) not in ONE_NUMBER:
            break
        name: str = node.name()
        if name in OF_EACH or name in WITH_REDUCTION:
            shape = shape_of(live[0])
            if name in NLL:
                return LOSSES[name], prod(shape) // shape[1] if len(shape) > 1 else 1
            if name in LOSSES:
                return LOSSES[name], prod(shape)
            if prod(shape) > 1:
                return "mean", 1 if _is_of_classes(live[0]) else shape[0]
        node = live[0]  # of a cross entropy with label smoothing the first addend
    return "", 0


def _is_of_classes(node: Any) -> bool:
    """Return whether these are the numbers of the classes of one sample."""
    while node is not None and len(shape_of(node)) == 1:
        if node.name() in ("LogSoftmaxBackward0", "SoftmaxBackward0"):
            return True
        node = next((below for below, _ in node.next_functions if below is not None), None)
    return False
