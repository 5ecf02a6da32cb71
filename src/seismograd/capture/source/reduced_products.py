"""Find the statement that takes the mean or the sum of a product."""

from __future__ import annotations

import ast

from seismograd.capture.source.statements import Statement, nearest, statements

REDUCTIONS = ("mean", "sum")


def reduced_product(file: str, near: int) -> Statement | None:
    """Return the statement in training that takes the mean or the sum of a product: of several the
    one in the function around the line `near`, before it.
    """
    known = statements(file)
    found = [s for s in known if not s.evaluates and any(map(_reduces, ast.walk(s.node)))]
    return nearest(found, known, near)


def _reduces(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="torch"), attr=name), args=[given, *_]):
            pass
        case ast.Call(func=ast.Attribute(value=given, attr=name)):
            pass
        case _:
            return False
    return name in REDUCTIONS and any(
        isinstance(each, ast.BinOp)
        and isinstance(each.op, ast.Mult | ast.Div)
        and not isinstance(each.left, ast.Constant)
        and not isinstance(each.right, ast.Constant)
        for each in ast.walk(given)
    )
