"""Find the statement that computes a bootstrapped target."""

from __future__ import annotations

import ast
import re

from seismograd.capture.source.statements import Statement, statements

DISCOUNT = re.compile(r"gamma|discount", re.IGNORECASE)


def bootstrapping(file: str) -> Statement | None:
    """Return the only statement in training that assigns a sum with something discounted: what a
    call returns, or, where none does that, any other number.
    """
    assigned = [s for s in statements(file) if not s.evaluates and isinstance(s.node, ast.Assign)]
    for of_call in (True, False):
        found = [s for s in assigned if _is_discounted(s.node, of_call=of_call)]
        if found:
            return found[0] if len(found) == 1 else None
    return None


def _is_discounted(node: ast.stmt, *, of_call: bool) -> bool:
    return any(
        isinstance(each, ast.BinOp)
        and isinstance(each.op, ast.Add)
        and any(
            isinstance(below, ast.BinOp)
            and isinstance(below.op, ast.Mult)
            and DISCOUNT.search(ast.unparse(below))
            and (not of_call or any(isinstance(call, ast.Call) for call in ast.walk(below)))
            for below in ast.walk(each)
        )
        for each in ast.walk(node)
    )
