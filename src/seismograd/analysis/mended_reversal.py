"""Write what the backward of a gradient reversal returns as it should read."""

from __future__ import annotations

import ast

from seismograd.parsed_source import parsed


def turned(text: str) -> str:
    """Return the `return` statement with a minus in front of the first thing that it returns; empty
    where it is no such statement.
    """
    tree = parsed(text)
    match tree.body if tree is not None else []:
        case [ast.Return(value=ast.Tuple(elts=[first, *rest]))]:
            parts = [_turned(first), *rest]
            return "return " + ", ".join(map(ast.unparse, parts)) + "," * (not rest)
        case [ast.Return(value=ast.expr() as value)]:
            return f"return {ast.unparse(_turned(value))}"
        case _:
            return ""


def _turned(value: ast.expr) -> ast.expr:
    match value:
        case ast.BinOp(left=left, op=ast.Mult() | ast.Div() as op, right=right):
            return ast.BinOp(_turned(left), op, right)
        case _:
            return ast.UnaryOp(ast.USub(), value)
