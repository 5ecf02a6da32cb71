"""Find the statement that multiplies the log-probability of actions."""

from __future__ import annotations

import ast
import re

from seismograd.capture.source.statements import Statement, statements

LOG_PROBABILITY = re.compile(r"log_?p(rob|i\b|\b|s\b|_)|ratio", re.IGNORECASE)


def policy_loss(file: str) -> Statement | None:
    """Return the only statement that does so in training."""
    found = [s for s in statements(file) if not s.evaluates and _multiplies(s.node)]
    return found[0] if len(found) == 1 else None


def _multiplies(node: ast.stmt) -> bool:
    return any(
        isinstance(each, ast.BinOp)
        and isinstance(each.op, ast.Mult)
        and any(LOG_PROBABILITY.search(ast.unparse(side)) for side in (each.left, each.right))
        for each in ast.walk(node)
    )
