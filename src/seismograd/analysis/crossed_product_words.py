"""Describe a product of the shapes [N] and [N, 1] that is reduced to the loss."""

from __future__ import annotations

from seismograd.i18n import Message, say
from seismograd.schema import Fact


def words_of_crossed_product(fact: Fact) -> tuple[Message, Message, str]:
    """Return cause, advice and excerpt for a fact of kind `LOSS_INPUT`."""
    rows, is_column = int(fact.number("rows")), bool(fact.number("low"))
    column, row = f"[{rows}, 1]", f"[{rows}]"
    return (
        say(
            "in the product at {line}, numbers of the samples of shape {given} are multiplied by "
            "constants of shape {constants}, such as advantages or weights: they are broadcast to "
            "[{rows}, {rows}] before they are reduced, so each sample counts with the mean of all "
            "constants and not with its own",
            line=fact.text("place") or fact.where or "?",
            given=row if is_column else column,
            constants=column if is_column else row,
            rows=rows,
        ),
        say(
            "bring both to the same shape before the product, with squeeze(-1) or unsqueeze(-1) on "
            "one of them"
        ),
        "-(log_prob * advantage.squeeze(-1)).mean()"
        if is_column
        else "-(log_prob.squeeze(-1) * advantage).mean()",
    )
