"""Find the statement that calls a loss function, and the one that adds a number without a graph to
a loss.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from seismograd.capture.source.statements import Statement, calls, name_of, statements

CUTS = ("item", "detach", "numpy", "tolist")
COPIES = ("tensor", "as_tensor", "float", "Tensor")


def loss_call(file: str, near: int, function: str, module: str) -> Statement | None:
    """Return the statement that calls a loss function, or an instance of the module for it, in
    training: of several the one in the function around the line `near`, before it.
    """
    known = statements(file)
    instances = {
        ast.unparse(target)
        for s in known
        if isinstance(s.node, ast.Assign)
        and isinstance(s.node.value, ast.Call)
        and name_of(s.node.value.func) == module
        for target in s.node.targets
    }
    found = [s for s in known if not s.evaluates and calls(s.node, (function,), instances)]
    return _nearest(found, known, near)


def cut_term(file: str, near: int) -> Statement | None:
    """Return the statement that adds a number without a graph to a loss: `loss = a + b.item()`, or
    `b = b.detach()` of what is added. `near` is the line of the backward.
    """
    known = statements(file)
    sums = [(s, list(_operands(s.node))) for s in known if not s.evaluates and _is_loss(s, known)]
    found = [s for s, operands in sums if any(map(_cuts, operands))]
    if not found:
        names = {
            (s.function, part.id)
            for s, operands in sums
            for each in operands
            for part in ast.walk(each)
            if isinstance(part, ast.Name)
        }
        found = [
            s
            for s in known
            if isinstance(s.node, ast.Assign)
            and (_cuts(s.node.value) or s.evaluates)
            and any((s.function, ast.unparse(target)) in names for target in s.node.targets)
        ]
    return _nearest(found, known, near)


def _operands(node: ast.stmt) -> Iterator[ast.expr]:
    """Yield what a statement adds up."""
    if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add | ast.Sub):
        yield node.value
    value: ast.AST | None = getattr(node, "value", None)
    stack = [value] if isinstance(node, ast.Assign | ast.AugAssign | ast.Return) else []
    while stack:
        each = stack.pop()
        if isinstance(each, ast.BinOp):
            match each.op:
                case ast.Add() | ast.Sub():
                    yield each.left
                    yield each.right
                    stack += [each.left, each.right]
                case ast.Div():
                    stack.append(each.left)
                case ast.Mult() if isinstance(each.left, ast.Constant):
                    stack.append(each.right)
                case _:
                    pass
        elif isinstance(each, ast.Dict):  # what a step of a framework returns
            stack += each.values
        elif isinstance(each, ast.Tuple):
            stack += each.elts


def _cuts(expression: ast.AST) -> bool:
    """Return whether the value of an operand is taken out of the graph as a whole."""
    match expression:
        case ast.Call(func=ast.Attribute(attr=name)) if name in CUTS:
            return True
        case ast.Call(func=function, args=[ast.Name() | ast.Call() | ast.Attribute(), *_]):
            return name_of(function) in COPIES
        case ast.Attribute(attr="data"):
            return True
        case ast.BinOp(left=left, op=ast.Mult() | ast.Div(), right=right):
            return _cuts(left) or _cuts(right)
        case ast.UnaryOp(operand=operand):
            return _cuts(operand)
        case _:
            return False


def _is_loss(statement: Statement, known: tuple[Statement, ...]) -> bool:
    """Return whether what a statement assigns or returns is backpropagated, and not only logged."""
    node = statement.node
    own = [s.text for s in known if s.function == statement.function]
    if isinstance(node, ast.Return):
        return not any(".backward(" in text for text in own)
    if isinstance(node, ast.Assign | ast.AugAssign):
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        name = re.escape(ast.unparse(target))
        leads_on = re.compile(
            rf"(?<![\w.]){name}\)?(?: / [^()]+\))?\.backward\(|backward\({name}\b"
            rf"|^return {name}\b(?! /)"
        )
        return any(map(leads_on.search, own))
    return False


def _nearest(found: list[Statement], known: tuple[Statement, ...], near: int) -> Statement | None:
    """Return the only one; of several the only one in the function around a line, before it."""
    if len(found) > 1:
        around = next((s.function for s in known if s.line == near), "")
        found = [s for s in found if s.function == around and s.line <= near]
    return found[0] if len(found) == 1 else None
