"""Describe a view that mixes the samples of a batch."""

from __future__ import annotations

import ast

from seismograd.analysis.rewriting import rewritten
from seismograd.i18n import Message, Values, say
from seismograd.schema import Fact


def words_of_mixed_samples(fact: Fact) -> tuple[Message, Message, str]:
    """Return cause, advice and excerpt for a fact of kind `MIXED_SAMPLES`."""
    values: Values = {
        "name": fact.text("name") or "?",
        "layer": fact.text("layer"),
        "line": fact.text("place") or fact.where or "?",
        "depth": int(fact.number("depth")),
        "samples": int(fact.number("samples")),
        "features": int(fact.number("features")),
    }
    cause = (
        say(
            "at {line}, view or reshape makes {samples} rows of the states of {name} ({layer}), "
            "which are {depth} × {samples} × {features}, layers or directions first: no number is "
            "moved, so each row holds the states of several samples",
            **values,
        )
        if fact.text("layer")
        else say(
            "before {line}, view or reshape makes {samples} rows of a stack of {depth} results, "
            "{depth} × {samples} × {features}: no number is moved, so each row holds the numbers "
            "of several samples",
            **values,
        )
    )
    return (
        cause,
        say("transpose the first two dimensions before, or concatenate the parts with torch.cat"),
        rewritten(fact.text("text"), _Transposed())
        or "state.transpose(0, 1).reshape(state.size(1), -1)",
    )


class _Transposed(ast.NodeTransformer):
    """Puts the samples first before a view."""

    def __init__(self) -> None:
        self.num = 0

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        match node:
            case ast.Call(func=ast.Attribute(value=state, attr="view" | "reshape"), args=[_, *_]):
                dims: list[ast.expr] = [ast.Constant(0), ast.Constant(1)]
                moved = ast.Call(ast.Attribute(state, "transpose"), dims, [])
                node.func = ast.Attribute(moved, "reshape")
                self.num += 1
            case _:
                pass
        return node
