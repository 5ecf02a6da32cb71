"""Find the statement that divides something by its own sum or norm."""

from __future__ import annotations

import ast

from seismograd.capture.source.statements import Statement, name_of, nearest, statements

SIZES = ("sum", "norm", "amax", "max", "vector_norm")


def own_share(file: str, near: int) -> Statement | None:
    """Return the statement in training that divides something by its own sum, as
    `w = w / w.sum(-1, keepdim=True)`: of several the one in the function around the line `near`,
    before it.
    """
    known = statements(file)
    found = [s for s in known if not s.evaluates and _divides(s.node)]
    return nearest(found, known, near)


def _divides(node: ast.stmt) -> bool:
    pairs = [
        (each.left, each.right)
        for each in ast.walk(node)
        if isinstance(each, ast.BinOp) and isinstance(each.op, ast.Div)
    ]
    if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Div):
        pairs.append((node.target, node.value))
    return any(_is_size_of(right, ast.unparse(left)) for left, right in pairs)


def _is_size_of(divisor: ast.expr, value: str) -> bool:
    for each in ast.walk(divisor):
        match each:
            case ast.Call(func=function, args=given) if name_of(function) in SIZES:
                owner = function.value if isinstance(function, ast.Attribute) else None
                if value in {ast.unparse(part) for part in (owner, *given) if part is not None}:
                    return True
            case _:
                pass
    return False
