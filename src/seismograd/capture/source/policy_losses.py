"""Find the statements that multiply the log-probability of actions."""

from __future__ import annotations

import ast
import re

from seismograd.capture.source.statements import Statement, statements

LOG_PROBABILITY = re.compile(r"log_?p(rob|i\b|\b|s\b|_)|ratio", re.IGNORECASE)


MAX_STATEMENTS = 3  # of one loss, as those of the two surrogates of PPO are


def policy_losses(file: str) -> list[Statement]:
    """Return the statements that do so in training, where all of them are of one loss: beside each
    other, in one function.
    """
    found = [s for s in statements(file) if not s.evaluates and _multiplies(s.node)]
    is_one = len({s.function for s in found}) == 1 and len(found) <= MAX_STATEMENTS
    return found if is_one and found[-1].line - found[0].line <= MAX_STATEMENTS else []


def _multiplies(node: ast.stmt) -> bool:
    return any(
        isinstance(each, ast.BinOp)
        and isinstance(each.op, ast.Mult)
        and any(LOG_PROBABILITY.search(ast.unparse(side)) for side in (each.left, each.right))
        for each in ast.walk(node)
    )
