"""Write a statement that keeps a `state_dict()` so that it keeps a copy."""

from __future__ import annotations

import ast

from seismograd.parsed_source import parsed


def with_copy(text: str) -> str:
    """Return the statement with a deep copy of what it keeps."""
    tree = parsed(text)
    node = tree.body[0] if tree is not None and len(tree.body) == 1 else None
    match node:
        case ast.Assign(targets=[target], value=value):
            return f"{ast.unparse(target)} = copy.deepcopy({ast.unparse(value)})"
        case _:
            return "best = copy.deepcopy(model.state_dict())"
