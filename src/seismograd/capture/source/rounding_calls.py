"""Find the statement that rounds something."""

from __future__ import annotations

import ast

from seismograd.capture.source.statements import Statement, nearest, statements


def rounding_call(file: str, near: int, operation: str) -> Statement | None:
    """Return the statement in training that rounds a tensor by this operation, as `torch.round(x)`
    or `x.round()`: of several the one in the function around the line `near`, before it.
    """
    known = statements(file)
    found = [s for s in known if not s.evaluates and _rounds(s.node, operation)]
    return nearest(found, known, near)


def _rounds(node: ast.stmt, operation: str) -> bool:
    for each in ast.walk(node):
        match each:
            case ast.Call(func=ast.Attribute(attr=attr)) if attr in (operation, f"{operation}_"):
                return True
            case ast.Call(func=ast.Attribute(attr="div"), keywords=keywords) if any(
                keyword.arg == "rounding_mode" for keyword in keywords
            ):
                return True
            case _:
                pass
    return False
