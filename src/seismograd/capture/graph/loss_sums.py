"""Find the numbers with a graph that a loss is the sum of, and what each is multiplied by."""

from __future__ import annotations

from typing import Any, NamedTuple

from seismograd.capture.graph.traversal import SAME_VALUES, saved, shape_of, source

MAX_NODES = 64
ADDING = frozenset({"AddBackward0", "SubBackward0"})
MULTIPLYING = frozenset({"MulBackward0", "DivBackward0"})
REDUCING = frozenset({"SumBackward0", "MeanBackward0"})
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
    add and multiply are not among them. Of more than `MAX_NODES` operations the rest is left out.
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
    return found


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
