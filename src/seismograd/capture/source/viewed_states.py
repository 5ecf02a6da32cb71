"""Find the statement that makes a view of the state of a recurrent layer."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from seismograd.capture.source.statements import Statement, statements

VIEWS = ("reshape", "view")


def viewed_state(file: str) -> Statement | None:
    """Return the only statement in training that calls `view` or `reshape` of a variable that a
    call returned beside others, as `out, (h_n, c_n) = self.lstm(x)` does.
    """
    known = [s for s in statements(file) if not s.evaluates]
    returned = {name for s in known for name in _unpacked(s.node)}
    found = [s for s in known if any(_views(each, returned) for each in ast.walk(s.node))]
    return found[0] if len(found) == 1 else None


def _unpacked(node: ast.stmt) -> Iterator[str]:
    match node:
        case ast.Assign(targets=[ast.Tuple() as target], value=ast.Call()):
            for each in ast.walk(target):
                if isinstance(each, ast.Name):
                    yield each.id
        case _:
            pass


def _views(node: ast.AST, names: set[str]) -> bool:
    match node:
        case ast.Call(
            func=ast.Attribute(
                value=ast.Name(id=name) | ast.Subscript(value=ast.Name(id=name)), attr=attr
            ),
            args=[_, _, *_],
        ):
            return attr in VIEWS and name in names
        case _:
            return False
