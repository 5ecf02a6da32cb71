"""Write a statement that weighs losses with what keeps the weights from falling."""

from __future__ import annotations

import ast

from seismograd.analysis.rewriting import rewritten


def with_held_weight(text: str) -> str:
    """Return the statement with `exp(-s) * loss + s` in place of `exp(-s) * loss`, or
    `loss / s ** 2 + torch.log(s)` for `loss / s ** 2`; empty where there is neither.
    """
    return rewritten(text, _Holder())


class _Holder(ast.NodeTransformer):
    num = 0

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        """Add what holds a weight to the product with it."""
        held = _held(node)
        if held is None:
            return self.generic_visit(node)
        self.num += 1
        return ast.BinOp(node, ast.Add(), held)


def _held(node: ast.BinOp) -> ast.expr | None:
    if isinstance(node.op, ast.Mult):
        return next((s for each in _factors(node) if (s := _exponent(each)) is not None), None)
    if isinstance(node.op, ast.Div):
        for each in ast.walk(node.right):
            match each:
                case ast.BinOp(left=base, op=ast.Pow(), right=ast.Constant(value=2)):
                    return ast.Call(ast.Attribute(ast.Name("torch"), "log"), [base], [])
                case _:
                    pass
    return None


def _factors(node: ast.expr) -> list[ast.expr]:
    match node:
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return [*_factors(left), *_factors(right)]
        case _:
            return [node]


def _exponent(node: ast.expr) -> ast.expr | None:
    """Return `s` of `torch.exp(-s)` and `(-s).exp()`."""
    match node:
        case ast.Call(
            func=ast.Attribute(attr="exp") | ast.Name(id="exp"),
            args=[ast.UnaryOp(op=ast.USub(), operand=s)],
        ):
            return s
        case ast.Call(
            func=ast.Attribute(value=ast.UnaryOp(op=ast.USub(), operand=s), attr="exp"), args=[]
        ):
            return s
        case _:
            return None
