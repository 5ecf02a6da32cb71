"""Describe a focal loss whose weight is computed from the mean over a batch."""

from __future__ import annotations

import ast

from seismograd.analysis.rewriting import rewritten
from seismograd.i18n import Message, say
from seismograd.schema import Fact

FUNCTIONS = {
    "bce": "binary_cross_entropy",
    "bce_with_logits": "binary_cross_entropy_with_logits",
    "cross_entropy": "cross_entropy",
}


def words_of_reduced_focal(fact: Fact) -> tuple[Message, Message, str]:
    """Return cause, advice and excerpt for a fact of kind `LOSS_INPUT`."""
    function = FUNCTIONS.get(fact.text("loss"), "")
    rows = int(fact.number("rows"))
    line = fact.text("place") or fact.where or "?"
    cause = (
        say(
            "the focal loss is given the result of {function} at {line} for all {rows} targets at "
            "once: its weight (1 - exp(-loss)) ** gamma is one number for the whole batch, so no "
            "hard sample counts more than an easy one, and the step only gets smaller as the loss "
            "falls",
            function=function,
            line=line,
            rows=rows,
        )
        if function
        else say(
            "the weight (1 - exp(-loss)) ** gamma of the focal loss at {line} is computed from a "
            "loss that is already reduced over {rows} samples: it is one number for the whole "
            "batch, so no hard sample counts more than an easy one, and the step only gets smaller "
            "as the loss falls",
            line=line,
            rows=rows,
        )
    )
    return (
        cause,
        say("compute the loss of each sample, with reduction='none', and take the mean at the end"),
        rewritten(fact.text("text"), _Unreduced(function))
        or f'ce = F.{function or "cross_entropy"}(logits, target, reduction="none")',
    )


class _Unreduced(ast.NodeTransformer):
    """Gives the loss function `reduction="none"`."""

    def __init__(self, function: str) -> None:
        self.num, self._function = 0, function

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        match node.func:
            case ast.Name(id=name) | ast.Attribute(attr=name) if name == self._function:
                given = [each for each in node.keywords if each.arg != "reduction"]
                node.keywords = [*given, ast.keyword("reduction", ast.Constant("none"))]
                self.num += 1
            case _:
                pass
        return node
