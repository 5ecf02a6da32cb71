"""Describe a value that is divided by its own sum over one element: cause, advice and a line of
code.
"""

from __future__ import annotations

import ast

from seismograd.i18n import Message, mark, say
from seismograd.parsed_source import parsed
from seismograd.schema import Fact

_SIZES = {"maximum": mark("maximum"), "norm": mark("norm"), "sum": mark("sum")}


def words_of_share_of_one(fact: Fact) -> tuple[Message, Message, str]:
    """Return the words about a fact whose cause is `SHARE_OF_ONE`."""
    cause = say(
        "what {first} computes is divided by its own {size} over a dimension of one element, "
        "before the loss at {line}: the result is one whatever it was, so {num} "
        "{num:parameter|parameters} behind it {num:gets|get} no gradient beyond rounding errors "
        "from that",
        first=fact.parameters[0],
        size=Message(_SIZES.get(fact.text("operation"), mark("sum")), {}),
        line=fact.where or "?",
        num=int(fact.number("num")),
    )
    advice = say(
        "divide only where there are several elements: the single weight of a top-1 gate has to "
        "stay a probability, so that its router can learn; or choose several"
    )
    return cause, advice, _where_several(fact.text("text"))


def _where_several(text: str) -> str:
    """Return the statement under the condition that there are several elements."""
    tree = parsed(text)
    match tree.body if tree is not None else []:
        case [ast.Assign(value=ast.BinOp(left=ast.Name() | ast.Attribute() as value))]:
            pass
        case [ast.AugAssign(target=ast.Name() | ast.Attribute() as value)]:
            pass
        case _:
            return "assert weights.shape[-1] > 1"
    return f"if {ast.unparse(value)}.shape[-1] > 1:\n    {text}"
