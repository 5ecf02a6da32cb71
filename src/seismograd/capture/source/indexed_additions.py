"""Find the statement that adds to the places of a tensor that an index names."""

from __future__ import annotations

import ast

from seismograd.capture.source.statements import Statement, nearest, statements


def indexed_addition(file: str, near: int) -> Statement | None:
    """Return the statement in training that is `total[index] += x`, or says the same in other
    words: of several the one in the function around the line `near`, before it.
    """
    known = statements(file)
    found = [s for s in known if not s.evaluates and _adds(s.node)]
    return nearest(found, known, near)


def _adds(node: ast.stmt) -> bool:
    match node:
        case ast.AugAssign(target=ast.Subscript(slice=index), op=ast.Add() | ast.Sub()):
            return _is_read(index)
        case ast.Assign(
            targets=[ast.Subscript(slice=index) as target],
            value=ast.BinOp(left=left, op=ast.Add() | ast.Sub(), right=right),
        ):
            same = ast.unparse(target)
            return _is_read(index) and same in (ast.unparse(left), ast.unparse(right))
        case _:
            return False


def _is_read(index: ast.expr) -> bool:
    """Return whether a variable names the places: neither numbers nor slices do it alone."""
    return any(isinstance(each, ast.Name) for each in ast.walk(index))
