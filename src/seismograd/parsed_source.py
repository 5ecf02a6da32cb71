"""Parse the source of a script, or a statement of it from a record, which may hold anything."""

from __future__ import annotations

import ast


def parsed(source: str) -> ast.Module | None:
    """Return the tree of a source, `None` where it is not Python."""
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
