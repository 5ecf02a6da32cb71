"""Find the statement that computes a bootstrapped target."""

from __future__ import annotations

import ast
import re

from seismograd.capture.source.statements import Statement, statements

DISCOUNT = re.compile(r"gamma|discount", re.IGNORECASE)


def bootstrapping(file: str) -> Statement | None:
    """Return the only statement in training that assigns a sum with something discounted."""
    found = [
        s
        for s in statements(file)
        if not s.evaluates and isinstance(s.node, ast.Assign) and _is_discounted(s.node.value)
    ]
    return found[0] if len(found) == 1 else None


def _is_discounted(node: ast.expr) -> bool:
    return any(
        isinstance(each, ast.BinOp)
        and isinstance(each.op, ast.Add)
        and any(
            isinstance(below, ast.BinOp)
            and isinstance(below.op, ast.Mult)
            and DISCOUNT.search(ast.unparse(below))
            and any(isinstance(call, ast.Call) for call in ast.walk(below))
            for below in ast.walk(each)
        )
        for each in ast.walk(node)
    )
