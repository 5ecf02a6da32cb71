"""Describe a term of a loss that a rounding blocks: cause, advice and a line of code."""

from __future__ import annotations

from seismograd.analysis.mended_rounding import without_rounding
from seismograd.i18n import Message, say
from seismograd.schema import Fact


def words_of_rounded_term(fact: Fact) -> tuple[Message, Message, str]:
    """Return the words about a fact of the kind `ROUNDED_TERM`."""
    operation = fact.text("operation")
    cause = say(
        "a term of the loss at {line} is computed through {operation}, whose derivative is zero "
        "everywhere: it adds to the loss, but none of the {num} {num:parameter|parameters} behind "
        "it, {first} among them, gets a gradient from it, so only other terms train them",
        line=fact.where or "?",
        operation=operation,
        num=int(fact.number("num")),
        first=fact.parameters[0],
    )
    advice = say(
        "compute this term from the values before {operation}; round only for metrics and display, "
        "or use a straight-through estimator",
        operation=operation,
    )
    mended = without_rounding(fact.text("text"), operation)
    return cause, advice, mended or f"y = x + (torch.{operation}(x) - x).detach()"
