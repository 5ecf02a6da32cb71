"""Find the statement that takes a state out of the graph from step to step."""

from __future__ import annotations

import ast

from seismograd.capture.source.detaching_statement import detaches
from seismograd.capture.source.statements import Statement, statements


def detached_assignment(file: str) -> Statement | None:
    """Return the only statement within a loop that detaches something, in training."""
    found = [
        s
        for s in statements(file)
        if not s.evaluates
        and s.num_loops
        and any(isinstance(each, ast.expr) and detaches(each) for each in ast.walk(s.node))
    ]
    values = [s for s in found if "item" not in s.text and "tolist" not in s.text]
    return values[0] if len(values) == 1 else None
