"""Find the statement that sets an attribute which nothing reads."""

from __future__ import annotations

import ast

from seismograd.capture.source.statements import Statement, statements


def switch_setting(file: str, attribute: str, value: bool) -> Statement | None:
    """Return the only statement that sets an attribute of this name to this value."""
    found = [s for s in statements(file) if _sets(s.node, attribute, value)]
    return found[0] if len(found) == 1 else None


def _sets(node: ast.stmt, attribute: str, value: bool) -> bool:
    return (
        isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Constant)
        and node.value.value is value
        and len(node.targets) == 1
        and isinstance(node.targets[0], ast.Attribute)
        and node.targets[0].attr == attribute
    )
