"""Find the statement that sums over all dimensions of something, also over the batch."""

from __future__ import annotations

import ast

from seismograd.capture.source.reduced_terms import is_whole_sum
from seismograd.capture.source.statements import Statement, statements


def whole_sum(file: str) -> Statement | None:
    """Return the only statement in training that sums over all dimensions, as `x.sum()` does, with
    no division.
    """
    found = [s for s in statements(file) if not s.evaluates and _sums(s.node)]
    return found[0] if len(found) == 1 else None


def _sums(node: ast.stmt) -> bool:
    nodes = list(ast.walk(node))
    return any(map(is_whole_sum, nodes)) and not any(
        isinstance(each, ast.BinOp) and isinstance(each.op, ast.Div) for each in nodes
    )
