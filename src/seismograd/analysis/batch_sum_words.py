"""Describe a sum over a whole batch that is added to the loss of each sample."""

from __future__ import annotations

import ast

from seismograd.analysis.rewriting import rewritten
from seismograd.i18n import Message, say
from seismograd.schema import Fact


def words_of_batch_sum(fact: Fact) -> tuple[Message, Message, str]:
    """Return cause, advice and excerpt for a fact of kind `LOSS_INPUT`."""
    excerpt = rewritten(fact.text("text"), _OfEachSample())
    return (
        say(
            "the loss at {line} is a mean over {rows} samples, and to the number of each sample a "
            "sum over {columns} numbers of all samples is added ({place}): this term counts "
            "{rows} times as much against the others as it does for a single sample, and drowns "
            "them",
            line=fact.where or "?",
            place=fact.text("place") or "?",
            rows=int(fact.number("rows")),
            columns=int(fact.number("columns")),
        ),
        say("sum over the numbers of each sample only, and keep the dimension of the batch"),
        f"{excerpt}  # one number for each sample"
        if excerpt
        else "term = x.flatten(1).sum(1)  # one number for each sample",
    )


class _OfEachSample(ast.NodeTransformer):
    """Makes a sum over all dimensions one over all but the first."""

    def __init__(self) -> None:
        self.num = 0

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="torch"), attr="sum"), args=[given]):
                pass
            case ast.Call(func=ast.Attribute(value=given, attr="sum"), args=[]):
                pass
            case _:
                return node
        if node.keywords:
            return node
        self.num += 1
        flat = ast.Call(ast.Attribute(given, "flatten"), [ast.Constant(1)], [])
        return ast.Call(ast.Attribute(flat, "sum"), [ast.Constant(1)], [])
