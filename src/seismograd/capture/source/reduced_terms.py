"""Find the statement that sums up a term of a loss."""

from __future__ import annotations

import ast

from seismograd.capture.source.statements import Statement, statements


def summing_statement(file: str) -> Statement | None:
    """Return the only statement in training that assigns a sum over all of something, with no
    division.
    """
    found = [
        s
        for s in statements(file)
        if not s.evaluates and isinstance(s.node, ast.Assign) and _sums(s.node.value)
    ]
    return found[0] if len(found) == 1 else None


def _sums(node: ast.expr) -> bool:
    nodes = list(ast.walk(node))
    return any(map(is_whole_sum, nodes)) and not any(
        isinstance(each, ast.BinOp) and isinstance(each.op, ast.Div) for each in nodes
    )


def is_whole_sum(node: ast.AST) -> bool:
    """Return whether this is `x.sum()` or `torch.sum(x)`, over all dimensions."""
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="torch"), attr="sum"), args=[_]):
            return not node.keywords
        case ast.Call(func=ast.Attribute(attr="sum"), args=[], keywords=[]):
            return True
        case _:
            return False
