"""Find the statement that computes the ratio of two policies, and the one that makes both of them
the same object.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from seismograd.capture.source.policy_losses import LOG_PROBABILITY
from seismograd.capture.source.statements import Statement, name_of, statements

RATIO = re.compile(r"ratio", re.IGNORECASE)
SIDE = re.compile(LOG_PROBABILITY.pattern + r"|\b(new|old|cur)", re.IGNORECASE)


def policy_ratio(file: str) -> Statement | None:
    """Return the only statement in training that computes a ratio of probabilities."""
    found = [s for s in statements(file) if not s.evaluates and _is_ratio(s.node)]
    return found[0] if len(found) == 1 else None


def same_object(ratio: Statement) -> Statement | None:
    """Return the only statement that makes what the old side of a ratio is computed by another name
    of something else, as `self.old = self.policy` does.
    """
    called = {ast.unparse(each) for side in _old_sides(ratio.node) for each in _owners(side)}
    found = [
        s
        for s in statements(ratio.file)
        if isinstance(s.node, ast.Assign)
        and isinstance(s.node.value, ast.Name | ast.Attribute)
        and len(s.node.targets) == 1
        and ast.unparse(s.node.targets[0]) in called
    ]
    return found[0] if len(found) == 1 else None


def _is_ratio(node: ast.stmt) -> bool:
    if any(_subtracted(each) for each in _exponentials(node)):
        return True
    names = [ast.unparse(each) for each in node.targets] if isinstance(node, ast.Assign) else []
    is_divided = isinstance(getattr(node, "value", None), ast.BinOp) and isinstance(
        getattr(getattr(node, "value", None), "op", None), ast.Div
    )
    is_exponential = any(RATIO.search(ast.unparse(each)) for each in _exponentials(node))
    return (is_divided and any(RATIO.search(name) for name in names)) or is_exponential


def _exponentials(node: ast.AST) -> Iterator[ast.expr]:
    """Yield what the exponential is taken of."""
    for each in ast.walk(node):
        if isinstance(each, ast.Call) and name_of(each.func) == "exp":
            if each.args:
                yield each.args[0]
            elif isinstance(each.func, ast.Attribute):
                yield each.func.value


def _subtracted(node: ast.expr) -> list[ast.BinOp]:
    return [
        each
        for each in ast.walk(node)
        if isinstance(each, ast.BinOp)
        and isinstance(each.op, ast.Sub)
        and all(SIDE.search(ast.unparse(side)) for side in (each.left, each.right))
    ]


def _old_sides(node: ast.stmt) -> Iterator[ast.expr]:
    for given in _exponentials(node):
        for difference in _subtracted(given):
            yield difference.right


def _owners(node: ast.expr) -> Iterator[ast.expr]:
    """Yield the objects that an expression calls, or methods of which it calls."""
    for each in ast.walk(node):
        if isinstance(each, ast.Call):
            yield each.func
            if isinstance(each.func, ast.Attribute):
                yield each.func.value
