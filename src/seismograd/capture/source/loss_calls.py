"""Find the statement that calls a loss function."""

from __future__ import annotations

import ast

from seismograd.capture.source.statements import Statement, calls, name_of, nearest, statements


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
    return nearest(found, known, near)
