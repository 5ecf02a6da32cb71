"""Write a statement without what takes a term of a loss out of its graph."""

from __future__ import annotations

import ast

from seismograd.analysis.rewriting import rewritten
from seismograd.parsed_source import parsed

CUTS = ("item", "detach", "numpy")
COPIES = ("tensor", "as_tensor", "from_numpy", "float")


def with_graph(text: str) -> str:
    """Return the statement without `.item()`, `.detach()`, `.data`, `torch.tensor(…)` and
    `float(…)`, and with `create_graph=True` in `torch.autograd.grad(…)`; empty where there is
    none of them.
    """
    return rewritten(text, _Joiner())


def without_block(text: str) -> str:
    """Return the statements of a block, and its first line as a comment above them."""
    tree = parsed(text)
    if tree is None:
        return ""
    match tree.body:
        case [ast.With(items=[item], body=body)]:
            return "\n".join([f"# with {ast.unparse(item)}:", *map(ast.unparse, body)])
        case _:
            return ""


class _Joiner(ast.NodeTransformer):
    num = 0

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Leave out `.item()` and its like, and copies."""
        self.generic_visit(node)
        match node:
            case ast.Call(func=ast.Attribute(value=owner, attr=name), args=[]) if name in CUTS:
                self.num += 1
                return owner
            case ast.Call(
                func=ast.Attribute(attr=name) | ast.Name(id=name),
                args=[ast.Name() | ast.Attribute() | ast.Call() as inner],
            ) if name in COPIES:
                self.num += 1
                return inner
            case ast.Call(func=ast.Attribute(value=owner, attr="grad"), keywords=keywords) if (
                ast.unparse(owner).endswith("autograd")
            ):
                self.num += 1  # what keeps the graph is implied
                kept = [k for k in keywords if k.arg not in ("create_graph", "retain_graph")]
                node.keywords = [*kept, ast.keyword("create_graph", ast.Constant(value=True))]
                return node
            case _:
                return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """Leave out `.data`."""
        self.generic_visit(node)
        if node.attr == "data" and isinstance(node.ctx, ast.Load):
            self.num += 1
            return node.value
        return node
