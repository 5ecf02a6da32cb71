"""Find the statement that computes what a policy is compared with."""

from __future__ import annotations

import ast

from seismograd.capture.source.statements import Statement, nearest, statements


def reference_statement(file: str, near: int) -> Statement | None:
    """Return the statement that computes something without gradients in the training: of several
    the one in the function around the line `near`, before it.
    """
    known = statements(file)
    found = [
        s
        for s in known
        if s.no_grad is not None
        and isinstance(s.node, ast.Assign)
        and any(isinstance(each, ast.Call) for each in ast.walk(s.node.value))
    ]
    return nearest(found, known, near)
