"""Find the statement that multiplies a loss by a learned weight."""

from __future__ import annotations

import ast

from seismograd.capture.source.statements import Statement, name_of, nearest, statements


def weighting_statement(file: str, near: int) -> Statement | None:
    """Return the statement in training that multiplies something by `exp(-s)`, or divides it by
    `s ** 2`: of several the one in the function around the line `near`, before it.
    """
    known = statements(file)
    found = [s for s in known if not s.evaluates and any(map(_weighs, ast.walk(s.node)))]
    return nearest(found, known, near)


def _weighs(node: ast.AST) -> bool:
    match node:
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return _is_negative_exponential(left) or _is_negative_exponential(right)
        case ast.BinOp(op=ast.Div(), right=divisor):
            return any(
                isinstance(each, ast.BinOp) and isinstance(each.op, ast.Pow)
                for each in ast.walk(divisor)
            )
        case _:
            return False


def _is_negative_exponential(node: ast.expr) -> bool:
    match node:
        case ast.Call(func=function, args=[ast.UnaryOp(op=ast.USub())]):
            return name_of(function) == "exp"
        case ast.Call(func=ast.Attribute(value=ast.UnaryOp(op=ast.USub()), attr="exp")):
            return True
        case _:
            return False
