"""Find the statement with which a router chooses experts."""

from __future__ import annotations

import ast

from seismograd.capture.source.statements import Statement, calls, statements

CHOOSING = ("topk", "argmax")


def routing(file: str) -> Statement | None:
    """Return the only assignment in training that calls `topk`, else the only one that calls
    `argmax`.
    """
    known = [s for s in statements(file) if not s.evaluates and isinstance(s.node, ast.Assign)]
    for name in CHOOSING:
        found = [s for s in known if calls(s.node, (name,))]
        if len(found) == 1:
            return found[0]
    return None
