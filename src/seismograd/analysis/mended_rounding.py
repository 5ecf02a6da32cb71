"""Write a statement without the rounding in it."""

from __future__ import annotations

import ast

from seismograd.analysis.rewriting import rewritten

MODULES = ("torch", "th")


def without_rounding(text: str, operation: str) -> str:
    """Return the statement with `x` in place of `torch.round(x)` or `x.round()`, where `operation`
    is `round`; empty where there is none.
    """
    return rewritten(text, _Opener(operation))


class _Opener(ast.NodeTransformer):
    def __init__(self, operation: str) -> None:
        self.operation, self.num = operation, 0

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Leave out the call."""
        self.generic_visit(node)
        match node:
            case ast.Call(func=ast.Attribute(value=owner, attr=name), args=given) if (
                name == self.operation
            ):
                is_function = isinstance(owner, ast.Name) and owner.id in MODULES
                if is_function and not given:
                    return node
                self.num += 1
                return given[0] if is_function else owner
            case _:
                return node
