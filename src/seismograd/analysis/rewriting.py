"""Write a statement of the script otherwise."""

from __future__ import annotations

import ast
from typing import Any, Protocol

from seismograd.parsed_source import parsed


class Rewriter(Protocol):
    """A transformer that counts the nodes that it has changed in `num`."""

    num: int

    def visit(self, node: ast.AST) -> Any:
        """Return what stands in the place of a node."""
        ...


def rewritten(text: str, rewriter: Rewriter) -> str:
    """Return the statement as the transformer leaves it; empty where it changed nothing, or where
    the statement cannot be read.
    """
    tree = parsed(text)
    if tree is None:
        return ""
    changed = rewriter.visit(tree)
    return ast.unparse(changed) if rewriter.num else ""
