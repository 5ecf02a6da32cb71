"""Find what the backward of an autograd Function returns."""

from __future__ import annotations

import ast

from seismograd.capture.source.statements import Statement, statements


def reversing_statement(file: str, line: int) -> Statement | None:
    """Return the first `return` of the `backward` that begins at a line."""
    found = (
        s
        for s in statements(file)
        if s.line > line and s.function == "backward" and isinstance(s.node, ast.Return)
    )
    return next(found, None)
