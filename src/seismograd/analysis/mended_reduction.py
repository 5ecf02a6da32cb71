"""Write a statement that sums up a term of a loss so that it fits a term that is a mean."""

from __future__ import annotations

import ast

from seismograd.analysis.rewriting import rewritten
from seismograd.parsed_source import parsed


def divided(text: str, numel: int) -> str:
    """Return the assignment with its value divided by `numel`, over which the mean is; what to
    write where there is no such statement.
    """
    tree = parsed(text)
    match tree.body if tree is not None else []:
        case [ast.Assign(targets=[target], value=value)]:
            mended = ast.BinOp(value, ast.Div(), ast.Constant(numel))
            written = f"{ast.unparse(target)} = {ast.unparse(mended)}"
        case _:
            written = f"loss = mean_term + sum_term / {numel}"
    return f"{written}  # the mean is over {numel} numbers"


def summed(text: str, function: str) -> str:
    """Return the statement with the result of a loss function summed, and divided by the number of
    samples; empty where it is not called with what it compares.
    """
    return rewritten(text, _Summer(function))


class _Summer(ast.NodeTransformer):
    def __init__(self, function: str) -> None:
        self.function, self.num = function, 0

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Sum what a call of the function averages."""
        self.generic_visit(node)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if name != self.function or len(node.args) != 2:
            return node
        self.num += 1
        others = [each for each in node.keywords if each.arg != "reduction"]
        node.keywords = [*others, ast.keyword("reduction", ast.Constant("sum"))]
        samples = ast.Call(ast.Name("len"), [node.args[1]], [])
        return ast.BinOp(node, ast.Div(), samples)
