"""Find the numbers with a graph that a loss is the sum of, and what each is multiplied by."""

from __future__ import annotations

from typing import Any, NamedTuple

from seismograd.capture.graph.traversal import SAME_VALUES, saved, shape_of, source

MAX_NODES = 64
ADDING = frozenset({"AddBackward0", "SubBackward0"})
MULTIPLYING = frozenset({"MulBackward0", "DivBackward0"})
REDUCING = frozenset({"SumBackward0", "MeanBackward0"})
NLL = frozenset({"NllLossBackward0", "NllLoss2DBackward0"})
# operations whose results are sums of what they get, times numbers
LINEAR = (
    SAME_VALUES
    | NLL
    | {
        "DivBackward0",
        "DivBackward1",
        "MaskedFillBackward0",
        "MeanBackward0",
        "MeanBackward1",
        "MulBackward0",
        "MulBackward1",
        "NegBackward0",
        "SumBackward0",
        "SumBackward1",
    }
)
ONE_NUMBER = ((), (1,))


class Addend(NamedTuple):
    """A term of a loss: the operation that computes it, which of its results it is, and what the
    script multiplies it by until it is in the loss; `None` where that number is not known.
    """

    node: Any
    number: int
    factor: float | None


def addends(top: Any) -> list[Addend]:
    """Return the terms of a loss, in the order in which the script adds them; the operations that
    add and multiply are not among them, and a cross entropy with label smoothing is one. Of more
    than `MAX_NODES` operations the rest is left out.
    """
    stack: list[Addend] = [Addend(top, 0, 1.0)]
    found: list[Addend] = []
    num_nodes = 0
    while stack and num_nodes < MAX_NODES:
        each = stack.pop()
        node, factor = each.node, each.factor
        num_nodes += 1
        if node is None:
            continue
        name: str = node.name()
        if shape_of(node) not in ONE_NUMBER:
            found.append(each)
        elif name in ADDING:
            alpha = float(node._saved_alpha) * (1 if name == "AddBackward0" else -1)
            (one, of_one), (other, of_other) = node.next_functions
            by = None if factor is None else alpha * factor
            stack += [Addend(other, of_other, by), Addend(one, of_one, factor)]
        elif name == "NegBackward0":
            below, number = node.next_functions[0]
            stack.append(Addend(below, number, None if factor is None else -factor))
        elif name in SAME_VALUES:
            below, number = node.next_functions[0]
            stack.append(Addend(below, number, factor))
        elif name in MULTIPLYING and (source(node) is None or source(node, 1) is None):
            position = 1 if source(node) is None else 0
            by = _number(node, name, position)
            below, number = node.next_functions[position]
            stack.append(
                Addend(below, number, None if factor is None or by is None else factor * by)
            )
        elif name in REDUCING and _is_stack(source(node)):
            parts = source(node).next_functions
            by = 1 if name == "SumBackward0" else 1 / len(parts)
            inner = None if factor is None else by * factor
            stack += [Addend(below, number, inner) for below, number in reversed(parts)]
        else:
            found.append(each)
    return _without_smoothing(found) if len(found) > 1 else found


def _without_smoothing(found: list[Addend]) -> list[Addend]:
    """Return the terms without the smoothing of labels: it belongs to a cross entropy, whose other
    part is another sum of the same logarithms of probabilities.
    """
    ends = [_log_softmax(each.node) for each in found]
    of_labels = {
        end for each, end in zip(found, ends, strict=True) if end is not None and _is_nll(each.node)
    }
    return [
        each
        for each, end in zip(found, ends, strict=True)
        if end not in of_labels or _is_nll(each.node)
    ]


def _log_softmax(node: Any) -> Any:
    """Return the log-softmax of whose results a term is a sum, each times a number."""
    while node is not None and node.name() in LINEAR:
        live = [below for below, _ in node.next_functions if below is not None]
        node = live[0] if len(live) == 1 else None
    return node if node is not None and node.name() == "LogSoftmaxBackward0" else None


def _is_nll(node: Any) -> bool:
    while node is not None and node.name() in LINEAR - NLL:
        node = source(node) or source(node, 1)
    return node is not None and node.name() in NLL


def _is_stack(node: Any) -> bool:
    """Return whether numbers are stacked: `torch.stack(losses).sum()`."""
    return node is not None and node.name() == "StackBackward0" and len(shape_of(node)) == 1


def _number(node: Any, name: str, position: int) -> float | None:
    """Return the number by which a node multiplies its operand at this position."""
    if name == "DivBackward0" and position == 1:  # a number divided by it
        return None
    other = saved(node, "self" if position == 1 else "other")
    if other is None or other.numel() != 1 or other.device.type != "cpu" or other.is_complex():
        return None
    number = float(other)
    if name == "MulBackward0":
        return number
    return 1 / number if number else None
